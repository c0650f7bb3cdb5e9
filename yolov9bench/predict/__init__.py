"""From images to detections, by the settings of a protocol; `predictions` needs no torch."""

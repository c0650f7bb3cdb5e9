"""Figures of detections, trainings, networks and the published results."""

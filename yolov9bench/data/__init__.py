"""Images and boxes: reading COCO-format folders, fetching what is missing, augmenting and batching."""

"""How far the reading of images runs ahead of the network."""

from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from yolov9bench.data.coco import read_coco
from yolov9bench.ops.images import read_image
from yolov9bench.predict import batches
from yolov9bench.predict.batches import Batches
from yolov9bench.zoo.protocols import find_protocol


def test_images_are_read_a_few_batches_ahead_and_no_more(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a whole data set would lie in memory before the first batch: 5,000 images of 640 px are 6 GB."""
    read, lock = [0], Lock()

    def reading(path: Path) -> Any:
        with lock:
            read[0] += 1
        return read_image(path)

    monkeypatch.setattr(batches, "read_image", reading)
    dataset = read_coco(tiny, "val")
    twelve = replace(dataset, images=dataset.images * 2)
    ahead = []
    for number, _ in enumerate(Batches(twelve, find_protocol("mmyolo", 64), batch_size=1), start=1):
        ahead.append(read[0] - number)
    assert len(ahead) == 12
    assert max(ahead) <= 3
    assert read == [12]

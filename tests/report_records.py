"""Made-up records of whole evaluations and of memory, as the report reads them."""

from dataclasses import asdict
from typing import Any

from yolov9bench.io import provenance
from yolov9bench.records import Record
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.coco2017 import SPLITS

WHOLE = SPLITS["val2017"]
COMMIT = provenance.code().commit or "1" * 40  # one that this checkout has, where there is one


def evaluation(row: str | None = "yolov9-c", ap: float = 0.5312, day: int = 1, **changes: Any) -> Record:
    """A complete evaluation of a row's own weights by a commit, with changes."""
    published = ROWS[row or "yolov9-c"].download
    weights = published.sha256[0] if published.sha256 else f"{published.sha256_prefix}{'0' * 56}"
    protocol = asdict(ROWS[row or "yolov9-c"].protocol)
    inputs = {
        "weights_sha256": weights,
        "spec": "yolov9-c",
        "classes": 80,
        "demo": False,
        "annotations_sha256": WHOLE.annotations_sha256,
        "image_list_sha256": "ab" * 32,
        "images": 5000,
        "images_skipped": [],
    }
    return Record(
        row=row,
        kind="evaluate",
        values={
            "AP": ap,
            "AP_interval": changes.get("interval"),
            "AP_interval_method": changes.get("method"),
        },
        settings={"protocol": changes.get("protocol", protocol) | changes.get("with_", {})},
        inputs=inputs | changes.get("inputs", {}),
        environment={"commit": COMMIT, "dirty": changes.get("dirty", False), "device": "cpu"},
        seed=0,
        start=f"2026-01-{day:02}T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )


def measurement(row: str = "yolov8-n", device: str = "cuda", dirty: bool = False, **changes: Any) -> Record:
    """A measurement of training memory: 2.5 GiB allocated, 3.2 GiB predicted."""
    step = {"predicted_bytes": int(3.2 * 2**30), "allocated_bytes": int(2.5 * 2**30)} | changes
    return Record(
        row=row,
        kind="measure",
        values={"memory": {"training": {"plain": step}}},
        settings={"image_size": 640, "training": {"plain": {"batch_size": changes.get("batch_size", 16)}}},
        inputs={"weights": "fresh"},
        environment={"dirty": dirty, "device": device},
        seed=0,
        start="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )

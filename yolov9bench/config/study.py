"""What the command study is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from yolov9bench.config.values import Config, require_checkpoint, require_protocol
from yolov9bench.errors import require_image_size, require_in_range, require_present, require_writable


@dataclass(frozen=True)
class StudyConfig(Config):
    """Show how far AP moves when one setting departs from a protocol: resizing, thresholds, NMS, truth."""

    checkpoint: Annotated[str, arg(metavar="PATH")]
    """The file of weights, of any known format; or a row id, whose published file is fetched."""
    dataset: Path = field(kw_only=True)
    """A folder in COCO's format: annotations/instances_<split>.json and <split>/."""
    protocol: str = "auto"
    """The baseline: yolov9, ultralytics, ultralytics-square or mmyolo; auto: that of the file's format."""
    split: str = "val2017"
    """The split to evaluate on."""
    annotations: Path | None = None
    """The file of boxes, if it is not annotations/instances_<split>.json or Roboflow's beside the images."""
    images: Path | None = None
    """The folder of images, if it is not <split>/, images/<split>/ or images/."""
    orders: int = 5
    """Random orders of images of equal height / width, where the baseline groups them; 0: leave them out."""
    batch_size: int = 16
    """Images at a time; changes speed and memory, not the detections."""
    limit: int | None = None
    """Only the first image ids; all if omitted."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto: CUDA where there is one."""
    image_size: int | None = None
    """Pixels, a multiple of 32; the protocol's if omitted."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    json: Path | None = None
    """Write the record to this file."""
    results: Path | None = None
    """Add the record to this folder's records/, its table and figure to studies/."""

    def validate(self) -> None:
        require_protocol(self.protocol)
        require_image_size(self.image_size)
        require_in_range(1, batch_size=self.batch_size, limit=self.limit)
        require_in_range(0, orders=self.orders)

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_checkpoint(self.checkpoint)
        require_present("dataset", self.dataset)
        require_present("annotations", self.annotations)
        require_present("images", self.images)
        require_writable("json", self.json)
        require_writable("results", self.results, folder=True)

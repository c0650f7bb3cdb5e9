"""What the commands on finished records are asked: second-opinion and export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from yolov9bench.config.values import Config
from yolov9bench.errors import exists, require_file, require_folder, require_writable


@dataclass(frozen=True)
class SecondOpinionConfig(Config):
    """Measure an evaluation's stored detections again: LRP error, calibration, corrected annotations."""

    record: Annotated[Positional[Path], arg(metavar="RECORD")]
    """The record of an evaluation."""
    annotations: UseAppendAction[tuple[Path, ...]] = ()
    """A file in COCO's format; the record's own is found by its hash. May be given more than once."""
    corrected: Path | None = None
    """Annotations of the same images and classes by another hand, as COCO-ReM; AP by them stands beside."""
    json: Path | None = None
    """Write the answer, with every class, to this file as well."""
    results: Path | None = None
    """Another folder than results/, in which the detections are."""
    data_dir: str = "auto"
    """Downloads, whose annotations are looked at too; auto: data/ at the root of the project."""

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_file("record", self.record)
        require_file("corrected", self.corrected)
        for path in self.annotations:
            require_file("annotations", path)
        require_folder("results", self.results)
        exists("data_dir", Path(self.data_dir))  # or it holds no annotations
        require_writable("json", self.json)

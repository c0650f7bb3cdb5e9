"""What the smaller commands are asked: rows, inspect, measure, report, tidy and sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from yolov9bench.config.values import Config, Words, require_checkpoint, require_protocol
from yolov9bench.errors import (
    SettingsError,
    exists,
    require_folder,
    require_image_size,
    require_in_range,
    require_present,
    require_writable,
)


@dataclass(frozen=True)
class RowsConfig(Config):
    """Show every row, or one with its Spec and Recipe."""

    row: Annotated[Positional[str | None], arg(metavar="[ROW]")] = None
    """A row id; every row if omitted."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class InspectConfig(Config):
    """Show what a checkpoint holds."""

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """The checkpoint."""
    json: Path | None = None
    """Write the answer to this file as well."""

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_present("file", self.file)
        require_writable("json", self.json)


@dataclass(frozen=True)
class CheckDataConfig(Config):
    """Show all that is wrong or unusual in a data set, before anything is evaluated or trained on it."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """The data set: annotations/instances_<split>.json and <split>/, or Roboflow's or CVAT's layout."""
    split: str = "val2017"
    """The split to look at."""
    annotations: Path | None = None
    """The file of boxes, if it is not annotations/instances_<split>.json or Roboflow's beside the images."""
    images: Path | None = None
    """The folder of images, if it is not <split>/, images/<split>/ or images/."""
    json: Path | None = None
    """Write the findings to this file as well."""

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_present("folder", self.folder)
        require_present("annotations", self.annotations)
        require_present("images", self.images)
        require_writable("json", self.json)


@dataclass(frozen=True)
class PredictConfig(Config):
    """Show what a checkpoint detects: images with boxes, and one COCO result file."""

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE")]
    """Files, or folders of images."""
    checkpoint: Annotated[str, arg(metavar="PATH")]
    """A file of weights, or a row id, whose published file is fetched."""
    out: Path = Path("predictions")
    """The folder for the images with their boxes and for detections.json."""
    score_threshold: float = 0.25
    """The least score that is kept, 0 to 1."""
    protocol: str = "auto"
    """How images are resized and boxes suppressed; auto: that of the checkpoint's format."""
    image_size: int | None = None
    """Pixels, a multiple of 32; the protocol's if omitted."""
    batch_size: int = 16
    """Images at a time."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto: CUDA where there is one."""
    tta: bool = False
    """Merge mmyolo's six views of each image."""

    def validate(self) -> None:
        _require_any("images", self.images)
        require_image_size(self.image_size)
        require_in_range(1, batch_size=self.batch_size)
        require_protocol(self.protocol)
        if not 0 <= self.score_threshold <= 1:
            raise SettingsError(f"score_threshold is {self.score_threshold:g}: give a number from 0 to 1")

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_checkpoint(self.checkpoint)
        for image in self.images:
            require_present("image", image)
        require_writable("out", self.out, folder=True)
        for image in self.images:
            if (image if image.is_dir() else image.parent).resolve() == self.out.resolve():
                raise SettingsError(
                    f"out {self.out} is the folder of {image}: choose another, to overwrite none"
                )


@dataclass(frozen=True)
class MeasureConfig(Config):
    """Measure what a row costs: parameters, GFLOPs, time and memory."""

    row: Annotated[Positional[str], arg(metavar="ROW")]
    """A row id."""
    device: str = "auto"
    """Where time is measured: cpu, cuda or cuda:1; auto: CUDA where there is one."""
    image_size: int = 640
    """Pixels, a multiple of 32."""
    batch_size: int = 16
    """Images of a training step."""
    memory_only: bool = False
    """Measure no time, as on a machine that is busy."""
    json: Path | None = None
    """Write the record to this file."""
    results: Path | None = None
    """Add the record to this folder's records/."""

    def validate(self) -> None:
        require_image_size(self.image_size)
        require_in_range(1, batch_size=self.batch_size)

    def require_paths(self) -> None:
        """SettingsError for an output that cannot be written."""
        require_writable("json", self.json)
        require_writable("results", self.results, folder=True)


@dataclass(frozen=True)
class ReportConfig(Config):
    """Write the table, its pages and its figures from the records."""

    check: bool = False
    """Write nothing; fail if anything differs."""
    results: Path | None = None
    """Another folder than results/; leaves README.md alone."""

    def require_paths(self) -> None:
        """SettingsError for a folder that does not exist, that has no records, or that cannot be written."""
        require_folder("results", self.results)
        if self.results is not None and not (self.results / "records").is_dir():
            raise SettingsError(f"results {self.results} has no folder records: give the folder that has it")
        require_writable("results", None if self.check else self.results, folder=True)


@dataclass(frozen=True)
class VerifyConfig(Config):
    """Compute every measured AP again and hold records, their history and the report against each other."""

    records: Annotated[Positional[tuple[Path, ...]], arg(metavar="[RECORD]")] = ()
    """Records to check; all of results/, its history and the report if omitted."""
    annotations: UseAppendAction[tuple[Path, ...]] = ()
    """A file in COCO's format, found by its hash; may be given more than once."""
    strict: bool = False
    """Fail as well where detections or annotations are missing, so that hashes alone were checked."""
    results: Path | None = None
    """Another folder than results/; leaves README.md alone."""
    data_dir: str = "auto"
    """Downloads, whose annotations are looked at too; auto: data/ at the root of the project."""

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist."""
        for name, paths in (("record", self.records), ("annotations", self.annotations)):
            for path in paths:
                require_present(name, path)
        require_folder("results", self.results)
        exists("data_dir", Path(self.data_dir))  # or it holds no annotations


@dataclass(frozen=True)
class TidyConfig(Config):
    """Take machine paths and widgets out of executed notebooks, in place."""

    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="NOTEBOOK")]
    """The notebooks."""

    def validate(self) -> None:
        _require_any("files", self.files)


@dataclass(frozen=True)
class SweepConfig(Config):
    """Run the notebook of many rows; rows that have their record already are left alone."""

    rows: Annotated[Words, arg(metavar="PATTERN")]
    """Row ids, or patterns like 'yolov8-*'."""
    set: Annotated[Words, arg(metavar="NAME=VALUE")] = ()
    """Parameters of the notebook, for every row."""
    list: bool = False
    """Run nothing; print one independent command a row."""
    devices: Annotated[Words, arg(metavar="DEVICE")] = ()
    """With --list: a device for each command in turn, like cuda:0 cuda:1."""

    def validate(self) -> None:
        _require_any("rows", self.patterns)
        if self.devices and not self.list:
            raise SettingsError(
                "devices are for commands that run side by side: give --list too, or --set device"
            )

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices of every --devices."""
        return tuple(word for words in self.devices for word in words)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The rows' patterns of every --rows."""
        return tuple(word for words in self.rows for word in words)

    @property
    def assignments(self) -> tuple[str, ...]:
        """The name=value of every --set."""
        return tuple(word for words in self.set for word in words)


def _require_any(name: str, values: tuple[object, ...]) -> None:
    if not values:
        raise SettingsError(f"{name} is missing: give at least one")

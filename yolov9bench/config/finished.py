"""What the commands on finished records are asked: second-opinion and export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from yolov9bench.config.values import Config
from yolov9bench.errors import SettingsError, exists, require_file, require_folder, require_writable


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


@dataclass(frozen=True)
class CompareConfig(Config):
    """Compare evaluations on the same images: the difference in AP and its 95 % interval."""

    records: Annotated[Positional[tuple[Path, ...]], arg(metavar="[RECORD RECORD]")] = ()
    """Two records of evaluations; if omitted, each two beside one another in the table or its checks."""
    annotations: UseAppendAction[tuple[Path, ...]] = ()
    """A file in COCO's format; the records' own is found by its hash. May be given more than once."""
    json: Path | None = None
    """Write the record of the comparison of two to this file."""
    keep: bool = False
    """Add the records of the comparisons to the results."""
    results: Path | None = None
    """Another folder than results/, in which records and detections are."""
    data_dir: str = "auto"
    """Downloads, whose annotations are looked at too; auto: data/ at the root of the project."""

    def validate(self) -> None:
        if len(self.records) not in (0, 2):
            raise SettingsError(f"records are {len(self.records)}: give two, or none for all neighbours")
        if self.json is not None and not self.records:
            raise SettingsError("json is for the comparison of two records: give them, or take keep")

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        for record in self.records:
            require_file("record", record)
        for path in self.annotations:
            require_file("annotations", path)
        require_folder("results", self.results)
        exists("data_dir", Path(self.data_dir))  # or it holds no annotations
        require_writable("json", self.json)


@dataclass(frozen=True)
class ExportConfig(Config):
    """Write records as a model card's model-index, a hub's evaluation results, or mmyolo's metafile."""

    form: Literal["model-index", "eval-results", "metafile"]
    """model-index: metadata of a model card; eval-results: a file for .eval_results/; metafile: mmyolo's."""
    records: Annotated[Positional[tuple[Path, ...]], arg(metavar="[RECORD]")] = ()
    """Records of evaluations; those that fill the table if omitted."""
    not_comparable: bool = False
    """Also those that may not fill the table, by the name of their data set with its images."""
    source: str | None = None
    """The web address at which the records can be seen."""
    dataset_id: str | None = None
    """Of eval-results: the hub's benchmark, as in owner/name."""
    task_id: str | None = None
    """Of eval-results: the benchmark's task, where it has several."""
    out: Path | None = None
    """Write to this file; to the terminal if omitted."""
    results: Path | None = None
    """Another folder than results/, whose records and measurements are taken."""

    def validate(self) -> None:
        hub = self.form == "eval-results"
        if hub and self.dataset_id is None:
            raise SettingsError("dataset_id is missing: give the hub's benchmark that the AP is listed under")
        if not hub and (self.dataset_id or self.task_id):
            raise SettingsError(f"dataset_id and task_id are for eval-results: leave them out of {self.form}")
        if self.form == "metafile" and self.source:
            raise SettingsError("source is for hubs, and a metafile has no place for it: leave it out")
        if self.source and not self.source.startswith(("https://", "http://")):
            raise SettingsError(f"source is {self.source!r}: give a web address, as in https://...")

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        for path in self.records:
            require_file("record", path)
        require_folder("results", self.results)
        require_writable("out", self.out)

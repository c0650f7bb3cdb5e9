"""What the command speed and its notebook are asked."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from yolov9bench.config.values import (
    Config,
    data_folder,
    require_checkpoint,
    results_folder,
)
from yolov9bench.errors import (
    SettingsError,
    require_choice,
    require_in_range,
    require_present,
    require_writable,
)

PROTOCOLS = ("ultralytics", "ultralytics-square")  # what the peer can be told to do


@dataclass(frozen=True)
class SpeedConfig(Config):
    """Time whole evaluations, metrics and the network beside peers, in turn, each with its accuracy."""

    checkpoint: str = "ultralytics-yolov8n"
    """A file of weights that peers can read too; or a row id, whose published file is fetched."""
    dataset: str = "auto"
    """A folder in COCO's format; auto: data/coco at the root of the project, which must be there."""
    split: str = "val2017"
    """annotations/instances_<split>.json and <split>/."""
    protocol: str = "ultralytics-square"
    """ultralytics or ultralytics-square, which Ultralytics can be told to do too."""
    limit: int | None = 100
    """Only the first image ids; None: all."""
    rounds: int = 5
    """How often each way runs, one after the other."""
    threads: int | None = None
    """Of each process; None: one a core."""
    peer_python: str = "auto"
    """A Python that has the peers; auto: this one. Peers that it lacks are left out, and named."""
    results_dir: str = "auto"
    """What was measured and its figure; auto: results/runs."""

    def validate(self) -> None:
        require_choice("protocol", self.protocol, PROTOCOLS)
        require_in_range(1, limit=self.limit, rounds=self.rounds, threads=self.threads)

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        require_checkpoint(self.checkpoint)
        require_present("dataset", self.dataset_folder)
        if self.peer_python != "auto" and shutil.which(self.peer_python) is None:
            raise SettingsError(f"peer_python {self.peer_python} is no program: give a Python, or auto")
        require_writable("results_dir", self.folder, folder=True)

    @property
    def dataset_folder(self) -> Path:
        """The folder of images and boxes."""
        return data_folder("auto") / "coco" if self.dataset == "auto" else Path(self.dataset)

    @property
    def folder(self) -> Path:
        """Where what was measured is written."""
        return results_folder(None) / "runs" if self.results_dir == "auto" else Path(self.results_dir)

    @property
    def cores(self) -> int:
        """The threads of each process."""
        return self.threads or os.cpu_count() or 1

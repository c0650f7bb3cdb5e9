"""What evaluate, train and reproduce are asked: fields, in order, are flags, their docstrings the help."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from yolov9bench.config.values import (
    Config,
    Words,
    parse_classes,
    project_root,
    require_backend,
    require_checkpoint,
    require_name,
    require_one_detector,
    require_protocol,
)
from yolov9bench.errors import (
    SettingsError,
    require_image_size,
    require_in_range,
    require_present,
    require_writable,
)
from yolov9bench.zoo.recipes import find_recipe

MOST_GIGABYTES = 1_000_000


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """Compute the COCO metrics of a checkpoint, or of a function of your own, on a data set."""

    checkpoint: Annotated[str | None, arg(metavar="PATH")] = None
    """The file of weights, of any known format; or a row id, whose published file is fetched."""
    dataset: Path = field(kw_only=True)
    """A folder in COCO's format: annotations/instances_<split>.json and <split>/."""
    detector: Annotated[str | None, arg(metavar="FILE.py:FUNCTION")] = None
    """In place of a checkpoint: your function, also as MODULE:FUNCTION, from RGB images to boxes, scores and
    category ids; its file is imported, so that its code runs, because you name it here."""
    name: str | None = None
    """Of the detector in the table; FILE.py:FUNCTION if omitted."""
    row: Annotated[Path | None, arg(metavar="FILE.toml")] = None
    """In place of a checkpoint: your row, with spec, checkpoint, protocol and published figures."""
    protocol: str = "auto"
    """How images become detections: yolov9, ultralytics, ultralytics-square or mmyolo; auto: that of the
    checkpoint's format."""
    split: str = "val2017"
    """The split to evaluate on."""
    annotations: Path | None = None
    """The file of boxes, if it is not annotations/instances_<split>.json or Roboflow's beside the images."""
    images: Path | None = None
    """The folder of images, if it is not <split>/, images/<split>/ or images/."""
    classes: Annotated[Words, arg(metavar="NAME")] = ()
    """Evaluate only these, as NAME or DETECTOR_NAME=DATASET_NAME; all, which must then agree, if omitted."""
    batch_size: int = 16
    """Images at a time; changes speed and memory, not the detections."""
    limit: int | None = None
    """Only the first image ids; all if omitted."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto: CUDA where there is one."""
    backend: str = "auto"
    """How the network is computed, which changes rounding and speed: plain; contiguous-N or
    channels-last-N for N = 1, 2, 4 or 8 images at a time; auto: on a CPU the fastest of these, measured
    once and kept in ~/.cache/yolov9bench. compiled: by torch.compile, which first takes a minute or more,
    under a square protocol. bfloat16, float16: the network alone in 16 bits; tf32: its products rounded
    so by a GPU. Their AP is first held against float32's on 64 images; such a record fills no cell of the
    table."""
    image_size: int | None = None
    """Pixels, a multiple of 32; the protocol's if omitted."""
    tta: bool = False
    """Merge mmyolo's six views of each image."""
    judge: bool = False
    """pycocotools must agree on every metric to 1e-12."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    self_check: bool = False
    """First see on four images whether the detector behaves as its protocol says; stop if it does not."""
    detections: Path | None = None
    """Write the detections: to a name in .json as a COCO result file, to .npz or a folder as arrays."""
    json: Path | None = None
    """Write the record to this file."""
    results: Path | None = None
    """Add the record to this folder's records/, that of your own detector with its detections."""

    def validate(self) -> None:
        require_one_detector(checkpoint=self.checkpoint, detector=self.detector, row=self.row)
        if self.name is not None:
            require_name(self.name)
        require_protocol(self.protocol)
        require_backend(self.backend)
        parse_classes(self.classes)
        require_image_size(self.image_size)
        require_in_range(1, batch_size=self.batch_size, limit=self.limit)

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        if self.checkpoint is not None:
            require_checkpoint(self.checkpoint)
        require_present("row", self.row)
        require_present("dataset", self.dataset)
        require_present("annotations", self.annotations)
        require_present("images", self.images)
        require_writable("detections", self.detections, folder=not (self.detections or Path()).suffix)
        require_writable("json", self.json)
        require_writable("results", self.results, folder=True)


@dataclass(frozen=True)
class TrainConfig(Config):
    """Train a row by its own recipe, in a folder where the same command resumes the run."""

    row: str
    """A row id."""
    dataset: str
    """A folder in COCO's format; demo: drawn here; coco: COCO 2017, fetched."""
    out: Path
    """The folder of the run: last.pt, best.pt, log.jsonl, run.json and, at its end, its record."""
    epochs: int | None = None
    """The recipe's if omitted."""
    image_size: int | None = None
    """Pixels, a multiple of 32; the recipe's if omitted."""
    batch_size: int | None = None
    """Images of one iteration, in each process; the recipe's images per GPU if omitted."""
    recipe: str = "auto"
    """auto: the row's own, on the demo set the demo's; small: for little data; or another name."""
    seed: int = 0
    """Of the first weights and of every augmentation."""
    max_steps: int | None = None
    """End after so many steps of the optimizer."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto: CUDA where there is one."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: float16 where the recipe trains in mixed precision and there is a GPU, else float32."""
    learning_rate: float | None = None
    """After warm-up; the recipe's if omitted."""
    start: Path | None = None
    """A checkpoint to fine-tune: of the same network, with any classes, which are matched by name."""
    freeze: int = 0
    """With start: so many parts of the backbone keep its weights; 1: the stem, 2 to 5: and 1 to 4 stages."""
    extend: bool = False
    """Let the run in out have more epochs than it was begun with: it goes on from last.pt."""
    workers: int | None = None
    """Processes that prepare batches; if omitted, none on a CPU and, beside a GPU, by the machine's cores."""
    cache: Literal["none", "ram", "disk"] = "none"
    """Where decoded images are kept: nowhere, in memory, or in a file of cache_dir."""
    cache_dir: Path | None = None
    """The folder of that file."""
    pool_gb: float = 2.0
    """With cache none, GB of memory for decoded images of mosaics, at most a quarter of what is free."""
    compile: bool = False
    """Translate the network for this machine by torch.compile, which takes a minute or more at the start."""
    activation_checkpointing: bool = False
    """Keep less of the forward pass and compute it again: less memory, longer steps, the same numbers."""
    deterministic: bool = False
    """Only algorithms that give the same sums every time; slower, and needed on a GPU alone."""
    tensorboard: bool = False
    """Write event files for TensorBoard into out/tensorboard; needs the package tensorboard."""
    split: str = "val2017"
    """The split for validation."""
    train_split: str = "auto"
    """The split to train on; auto: the split of that name with train for val."""
    limit: int | None = None
    """Only the first image ids of each split; all if omitted."""
    data_dir: str = "auto"
    """Downloads; auto: data/ at the root of the project."""

    def validate(self) -> None:
        _check_recipe(self.recipe)
        require_image_size(self.image_size)
        require_in_range(1, epochs=self.epochs, batch_size=self.batch_size)
        require_in_range(1, max_steps=self.max_steps, limit=self.limit)
        require_in_range(0, seed=self.seed, workers=self.workers, freeze=self.freeze)
        if self.freeze and self.start is None:
            raise SettingsError(
                f"freeze is {self.freeze}, which would keep weights that begin at random: give start"
            )
        if self.compile and self.activation_checkpointing:
            raise SettingsError("compile and activation_checkpointing exclude each other: give one of them")
        if not 0 <= self.pool_gb <= MOST_GIGABYTES:
            raise SettingsError(f"pool_gb is {self.pool_gb!r}: give gigabytes from 0 to {MOST_GIGABYTES:,}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"learning_rate is {self.learning_rate!r}: give a finite number above 0")

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        if self.dataset not in ("auto", "coco", "demo"):
            require_present("dataset", Path(self.dataset))
        else:
            require_writable("data_dir", self.data_folder, folder=True)
        require_present("start", self.start)
        require_writable("out", self.out, folder=True)
        require_writable("cache_dir", self.cache_dir, folder=True)

    @property
    def data_folder(self) -> Path:
        """Where downloads lie."""
        return _folder(self.data_dir, "data")


@dataclass(frozen=True)
class ReproduceConfig(Config):
    """Take a row from its checkpoint to a verdict on its published figure, as the notebook does."""

    family: str = "yolov9"
    """yolov8, yolov9 or gelan."""
    size: str = "m"
    """n, s, m, l, x for yolov8; t, s, m, c, e for yolov9; c, e for gelan."""
    mask_refine: bool = False
    """The yolov8 rows trained with boxes refined by masks."""
    source: str = "auto"
    """official, mmyolo or ultralytics; auto: mmyolo for yolov8, else official."""
    checkpoint: str = "auto"
    """auto or download: the row's published file; train: from scratch; or a path."""
    dataset: str = "auto"
    """auto or coco: COCO 2017, fetched; demo: drawn here; or a folder in COCO's format. Where nothing can be
    fetched, auto becomes a training on the demo set."""
    split: str = "val2017"
    """The split to evaluate on: annotations/instances_<split>.json and <split>/."""
    train_split: str = "auto"
    """Of a training; auto: the split of that name with train for val."""
    protocol: str = "auto"
    """yolov9, ultralytics, ultralytics-square or mmyolo; auto: the checkpoint's own."""
    tta: bool = False
    """Test-time augmentation: mmyolo's six views of each image, merged; protocol auto or mmyolo."""
    classes: str | None = None
    """Evaluate only these, as in 'person, bicycle=bike' (detector's=data set's name); all if omitted."""
    image_size: int | None = None
    """Pixels, a multiple of 32; the protocol's, in a training the recipe's, if omitted."""
    batch_size: int | None = None
    """Images at a time; 16, in a training the recipe's images per GPU, if omitted."""
    limit: int | None = None
    """Only the first image ids; all if omitted."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto: CUDA where there is one."""
    seed: int = 0
    """Of a training; an evaluation draws nothing at random."""
    recipe: str = "auto"
    """Of a training; auto: the row's own, on the demo set the demo's; or a name, like small."""
    epochs: int | None = None
    """Of a training; the recipe's if omitted."""
    processes: int = 1
    """Of a training: so many on this machine by torchrun, one a GPU, each with batch_size images."""
    workers: int | None = None
    """Of a training: processes that prepare batches; if omitted, none on a CPU, beside a GPU by cores."""
    judge: bool = True
    """pycocotools must agree on every metric to 1e-12."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    self_check: bool = True
    """First see on four images whether the detector behaves as its protocol says; stop if it does not."""
    data_dir: str = "auto"
    """Downloads; auto: data/ at the root of the project."""
    results_dir: str = "auto"
    """Records and detections; auto: results/runs at the root of the project, with fill_table results/."""
    fill_table: bool = False
    """Keep the record in results/records, from which the table is made."""

    def validate(self) -> None:
        require_protocol(self.protocol)
        _check_recipe(self.recipe)
        parse_classes(() if self.classes is None else self.classes)
        require_image_size(self.image_size)
        require_in_range(1, batch_size=self.batch_size, limit=self.limit, epochs=self.epochs)
        require_in_range(1, processes=self.processes)
        require_in_range(0, seed=self.seed, workers=self.workers)

    def require_paths(self) -> None:
        """SettingsError for an input that does not exist or an output that cannot be written."""
        if self.checkpoint not in ("auto", "download", "train"):
            require_checkpoint(self.checkpoint)
        if self.dataset not in ("auto", "coco", "demo"):
            require_present("dataset", Path(self.dataset))
        require_writable("data_dir", self.data_folder, folder=True)
        require_writable("results_dir", self.results_folder, folder=True)

    @property
    def chosen_classes(self) -> dict[str, str]:
        """The classes to evaluate, as `parse_classes` gives them; none for all."""
        return {} if self.classes is None else parse_classes(self.classes)

    @property
    def trains(self) -> bool:
        """Whether the checkpoint is to be trained here."""
        return self.checkpoint == "train"

    @property
    def data_folder(self) -> Path:
        """Where downloads lie."""
        return _folder(self.data_dir, "data")

    @property
    def results_folder(self) -> Path:
        """The folder of results: runs lie in runs/ below it."""
        return _folder(self.results_dir, "results")

    @property
    def records_folder(self) -> Path:
        """The folder whose records/ gets the record: that of the table only if it is asked for."""
        own = self.results_dir == "auto" and not self.fill_table
        return self.results_folder / "runs" if own else self.results_folder


def _check_recipe(name: str) -> None:
    if name != "auto":
        find_recipe(name)


def _folder(given: str, name: str) -> Path:
    return project_root() / name if given == "auto" else Path(given)

"""The parameters of a reproduction: one dataclass behind the notebook, the command line and the function."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from yolov9bench.errors import SettingsError

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Parameters:
    """What to reproduce, on what data, by which rules, and where things lie.

    family, size, mask_refine, source: the row ("auto" source: official for yolov9 and gelan, mmyolo for
    yolov8). checkpoint: "auto" or "download" for the row's published file, "train", or a path. dataset:
    "auto" or "coco" for COCO 2017, "demo", or a folder in COCO's format; where nothing can be fetched, "auto"
    of both becomes training on the demo set. protocol: "auto" for the checkpoint's own, or a name.
    tta: test-time augmentation, which mmyolo's protocol alone defines, at image sizes of its own.
    image_size: pixels, None for the protocol's or the training's. batch_size: images at a time, None for 16,
    in training for the recipe's images per GPU. limit: first images only, None for all. recipe: of a
    training, "auto" for the row's own, on the demo set the demo's. epochs: None for the recipe's. judge:
    pycocotools computes the metrics too. data_dir, results_dir: "auto" for data/ and results/ at the root of
    the project. Relative paths hang on the working directory.
    """

    family: str = "yolov9"
    size: str = "m"
    mask_refine: bool = False
    source: str = "auto"
    checkpoint: str = "auto"
    dataset: str = "auto"
    split: str = "val2017"
    protocol: str = "auto"
    tta: bool = False
    image_size: int | None = None
    batch_size: int | None = None
    limit: int | None = None
    device: str = "auto"
    seed: int = 0
    recipe: str = "auto"
    epochs: int | None = None
    judge: bool = True
    skip_corrupt: bool = False
    data_dir: str = "auto"
    results_dir: str = "auto"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            accepted = get_args(kind) or (kind,)
            if type(value) not in accepted:
                wanted = " or ".join("None" if each is type(None) else each.__name__ for each in accepted)
                raise SettingsError(f"{name} is {value!r}, a {type(value).__name__}: give {wanted}")
        for name in ("batch_size", "limit", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}: give 1 or more")

    @property
    def data_folder(self) -> Path:
        """Where downloads lie."""
        return project_root() / "data" if self.data_dir == "auto" else Path(self.data_dir)

    @property
    def results_folder(self) -> Path:
        """Where records and detections go."""
        return project_root() / "results" if self.results_dir == "auto" else Path(self.results_dir)


def parameters_from(namespace: Mapping[str, Any]) -> Parameters:
    """Parameters from a notebook's globals, of which every plain value must be one.

    papermill hands an unknown name on with no more than a warning: here a misspelt one raises SettingsError
    with the likely meaning, before anything runs.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and isinstance(value, PLAIN)
    }
    return checked_parameters(given)


def checked_parameters(given: Mapping[str, Any]) -> Parameters:
    """Parameters from names and values; SettingsError with a suggestion for an unknown name."""
    for name in given:
        plain_type(name)
    return Parameters(**given)


def plain_type(name: str) -> type:
    """The type of a parameter's values but None; SettingsError with a suggestion for an unknown name."""
    known = [field.name for field in fields(Parameters)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
        raise SettingsError(f"there is no parameter {name!r}: {hint}")
    kind = get_type_hints(Parameters)[name]
    plain: type = next(each for each in get_args(kind) or (kind,) if each is not NoneType)
    return plain


def project_root() -> Path:
    """The nearest folder upwards from the working directory with a pyproject.toml, else that directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)

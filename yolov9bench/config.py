"""The parameters of a reproduction: one dataclass behind the notebook, the command line and the function."""

from __future__ import annotations

import ast
import difflib
import numbers
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, get_args, get_type_hints

from yolov9bench.errors import SettingsError

PLAIN = (str, int, float, bool, type(None))
SHOWN_CHARACTERS = 60  # of a value in an error


@dataclass(frozen=True)
class Parameters:
    """What to reproduce, on what data, by which rules, and where things lie.

    family, size, mask_refine, source: the row ("auto" source: official for yolov9 and gelan, mmyolo for
    yolov8). checkpoint: "auto" or "download" for the row's published file, "train", or a path. dataset:
    "auto" or "coco" for COCO 2017, "demo", or a folder in COCO's format; where nothing can be fetched, "auto"
    of both becomes training on the demo set. split: what is evaluated; train_split: of a training, "auto" for
    the split of that name with train for val. protocol: "auto" for the checkpoint's own, or a name.
    tta: test-time augmentation, which mmyolo's protocol alone defines, at image sizes of its own.
    image_size: pixels, None for the protocol's or the training's. batch_size: images at a time, None for 16,
    in training for the recipe's images per GPU. limit: first images only, None for all. recipe: of a
    training, "auto" for the row's own, on the demo set the demo's. epochs: None for the recipe's. judge:
    pycocotools computes the metrics too. data_dir, results_dir: "auto" for data/ and results/ at the root of
    the project. Relative paths are relative to the working directory.

    A path is taken as a text and a number of numpy as Python's. SettingsError: a value of another type, or
    out of range.
    """

    family: str = "yolov9"
    size: str = "m"
    mask_refine: bool = False
    source: str = "auto"
    checkpoint: str = "auto"
    dataset: str = "auto"
    split: str = "val2017"
    train_split: str = "auto"
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
            given = getattr(self, name)
            value = as_plain(given)
            accepted = get_args(kind) or (kind,)
            if type(value) not in accepted:
                wanted = " or ".join("None" if each is type(None) else each.__name__ for each in accepted)
                raise SettingsError(f"{name} is {_shown(given)}, a {type(given).__name__}: give {wanted}")
            object.__setattr__(self, name, value)  # the dataclass is frozen
        for name in ("batch_size", "limit", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}: give 1 or more")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}: give 0 or more")

    @property
    def data_folder(self) -> Path:
        """Where downloads lie."""
        return project_root() / "data" if self.data_dir == "auto" else Path(self.data_dir)

    @property
    def results_folder(self) -> Path:
        """Where records and detections go."""
        return project_root() / "results" if self.results_dir == "auto" else Path(self.results_dir)


def as_plain(value: Any) -> Any:
    """A path as a text, a number or text of numpy as Python's; any other value as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # numpy's protocol of a single value
        value = value.item()
    if type(value) in PLAIN:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may print itself in another way
    return int(value) if isinstance(value, numbers.Integral) else value


def _shown(value: Any) -> str:
    """A value on one line, and not all of a long one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def parameters_from(namespace: Mapping[str, Any]) -> Parameters:
    """Parameters from a notebook's globals, of which every value that is given as one must be one.

    papermill hands an unknown name on with no more than a warning: here a misspelt one raises SettingsError
    with the likely meaning, before anything runs, and so does a value of a type that no parameter has.

    Every value counts but modules, functions, classes and names with an underscore. In a notebook, whose
    cells may run again after others have left lists and tables behind, an unknown name whose value is not
    plain counts only if a parameters cell assigns it.
    """
    cells = namespace.get("In") if "get_ipython" in namespace else None  # IPython's sources of what has run
    assigned = None if cells is None else set(_assigned_as_parameters(cells))
    known = {field.name for field in fields(Parameters)}
    given = {}
    for name, value in namespace.items():
        if name in known:
            given[name] = value
        elif name.startswith("_") or isinstance(value, ModuleType) or callable(value):
            continue
        elif type(value) in PLAIN or assigned is None or name in assigned:
            given[name] = value
    return checked_parameters(given)


def _assigned_as_parameters(cells: list[str]) -> Iterator[str]:
    """The names that are assigned in parameters cells, which are those before the first that asks for them
    and, when they run again, those that assign a known parameter."""
    known = {field.name for field in fields(Parameters)}
    has_asked = False
    for cell in cells:
        has_asked = has_asked or f"{parameters_from.__name__}(" in cell
        try:
            names = set(_assigned(ast.parse(cell)))
        except SyntaxError:  # IPython keeps such a cell too, but it has assigned nothing
            continue
        if not has_asked or names & known:
            yield from names


def _assigned(cell: ast.Module) -> Iterator[str]:
    for statement in cell.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for node in (node for target in targets for node in ast.walk(target)):
                if isinstance(node, ast.Name):
                    yield node.id


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

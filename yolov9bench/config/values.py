"""The values of a Config: taken from notebooks, numpy and paths, of the stated type, or refused by name."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from tyro.conf import UseAppendAction

from yolov9bench.errors import MOST_INTEGER, SettingsError, exists, require_choice, shown_value, unknown
from yolov9bench.zoo.backends import find_backend
from yolov9bench.zoo.protocols import find_protocol
from yolov9bench.zoo.rows import ROWS

Words = UseAppendAction[tuple[tuple[str, ...], ...]]  # a flag with many values, which may be given twice
MOST_OF_A_NAME = 60  # characters of a detector's own name
PLAIN = (str, int, float, bool, NoneType)


@dataclass(frozen=True)
class Config:
    """What a user asks of one command: values of the annotated types, each checked when the Config is made.

    A path is accepted for text and the reverse, and a number of numpy for Python's. SettingsError: a value
    of another type, a name that does not exist, or a number out of range. Nothing is read or fetched.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _converted(name, getattr(self, name), hint))  # frozen
        self.validate()

    def validate(self) -> None:
        """Refuse names that do not exist and numbers out of range; SettingsError."""

    @classmethod
    def from_names(cls, given: Mapping[str, Any]) -> Self:
        """A Config from names and values; SettingsError with a suggestion for an unknown name."""
        for name in given:
            cls.type_of(name)
        return cls(**given)

    @classmethod
    def type_of(cls, name: str) -> type:
        """The type of a field's values but None; SettingsError with a suggestion for an unknown name."""
        require_choice("parameter", name, [field.name for field in fields(cls)])
        kinds = _kinds(get_type_hints(cls)[name])
        return next(each for each in kinds if each is not NoneType)


def parse_classes(words: str | Sequence[Any]) -> dict[str, str]:
    """The data set's name of each class by the detector's, from NAME or DETECTOR_NAME=DATASET_NAME.

    A word may hold several, separated by commas, and lists of words others. SettingsError for one without a
    name, a class that is given twice, and for lists without any.
    """
    chosen: dict[str, str] = {}
    for part in (part for word in _flat(words) for part in str(word).split(",")):
        own, equals, other = (each.strip() for each in part.partition("="))
        if not own or (equals and not other):
            raise SettingsError(f"classes has {part!r}: give a class's name, or DETECTOR_NAME=DATASET_NAME")
        if own in chosen:
            raise SettingsError(f"classes names {own!r} twice: name each class of the detector once")
        chosen[own] = other or own
    if words and not chosen:
        raise SettingsError("classes is empty: give the names of classes, or leave it out for all")
    return chosen


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


def project_root() -> Path:
    """The nearest folder upwards from the working directory with a pyproject.toml, else that directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def results_folder(given: Path | None) -> Path:
    """The folder of results that a command was given, else that of the project."""
    return given or project_root() / "results"


def data_folder(given: str) -> Path:
    """The folder of downloads that a command was given, else that of the project."""
    return project_root() / "data" if given == "auto" else Path(given)


def from_root(path: Path) -> str:
    """A path as seen from the project's root; one that lies elsewhere as it is."""
    place, root = path.absolute(), project_root().absolute()
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(path)


def require_protocol(name: str) -> None:
    """SettingsError with a suggestion for a protocol that does not exist; "auto" is the checkpoint's own."""
    if name != "auto":
        find_protocol(name)


def require_checkpoint(path: str | Path) -> None:
    """SettingsError for what is neither a file nor the id of a row; nothing is read or fetched."""
    name = str(path)
    if "://" in name:
        raise SettingsError(f"checkpoint {name} is a web address: fetch the file and give its path")
    place = Path(path)
    if exists("checkpoint", place):
        if not place.is_file():
            raise SettingsError(f"checkpoint {name} is a folder: give a file in it")
    elif name.lower() not in ROWS:
        if isinstance(path, str) and not place.suffix and "/" not in name:
            raise unknown("checkpoint or row", name, ROWS)
        raise SettingsError(f"checkpoint {name} does not exist: check the path, or give the id of a row")


def require_one_detector(**given: object) -> None:
    """SettingsError unless one of what names a detector is given, and no more."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        fault = f"{' and '.join(named)} are given" if named else "no detector is given"
        raise SettingsError(f"{fault}: give one of {', '.join(given)}")


def require_backend(name: str) -> None:
    """SettingsError with a suggestion for a backend that does not exist; "auto" is the fastest one."""
    if name != "auto":
        find_backend(name)


def require_unset(**given: object) -> None:
    """SettingsError for a setting of a network, which a function sees to itself; it is as usual or None."""
    for name, value in given.items():
        if value not in (None, "auto", False):
            raise SettingsError(
                f"{name} is {value!r}, but a function detects in its own way: leave {name} out"
            )


def require_name(name: str) -> None:
    """SettingsError for a detector's name that does not fit the cell of a table."""
    if not name.strip() or not name.isprintable() or len(name) > MOST_OF_A_NAME:
        given = shown_value(name)
        raise SettingsError(f"name is {given}: give 1 to {MOST_OF_A_NAME} characters on one line")


def _converted(name: str, given: Any, hint: Any) -> Any:
    """A value as its annotation wants it; SettingsError if it is of another type."""
    if get_origin(hint) is tuple:
        return tuple(_converted(name, each, get_args(hint)[0]) for each in _flat(given))
    value, kinds = as_plain(given), _kinds(hint)
    if type(value) is int and float in kinds and abs(value) <= MOST_INTEGER:
        value = float(value)
    if type(value) is str and not value:
        raise SettingsError(f"{name} is empty: give a value, or leave it out")
    wants_path = Path in kinds and type(value) is str
    if type(value) not in kinds and not wants_path:
        wanted = " or ".join("None" if each is NoneType else each.__name__ for each in kinds)
        raise SettingsError(f"{name} is {shown_value(given)}, a {type(given).__name__}: give {wanted}")
    if get_origin(hint) is Literal:
        require_choice(name, value, get_args(hint))
    return Path(value) if wants_path else value


def _kinds(hint: Any) -> tuple[type, ...]:
    """The types that an annotation accepts, as in (int, NoneType)."""
    if get_origin(hint) is Literal:
        return (str,)
    return get_args(hint) or (hint,)


def _flat(values: Any) -> Iterator[Any]:
    """The values of a list, and of lists in it, as a flag that is given twice makes them."""
    if not isinstance(values, list | tuple):
        yield values
        return
    for each in values:
        yield from _flat(each)

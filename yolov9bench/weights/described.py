"""What a checkpoint says of itself, as values of the types that they should have: Spec, row, class names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from yolov9bench.errors import CheckpointError, SettingsError, shown
from yolov9bench.weights.known import first_three
from yolov9bench.weights.objects import Inert
from yolov9bench.zoo.specs import Spec
from yolov9bench.zoo.toml_values import as_dataclass

LONGEST_TEXT = 200  # letters of a name; the longest class name of a public data set has some 50
MOST_CLASSES = 100_000
DEEPEST_TABLE = 4  # a Spec has stages, which have blocks, which have numbers
MOST_ITEMS = 16  # of a table within a Spec
WIDEST, DEEPEST = 16_384, 64  # channels and repetitions; the largest known are 2,048 and 6
LABEL = re.compile(r"[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True)
class OwnFacts:
    """What a file of our own says of its network."""

    spec: Spec
    row: str | None
    fused: bool


def parse_own_facts(path: Path, raw: Mapping[Any, Any]) -> OwnFacts:
    """The facts of a file of our own; CheckpointError for one that is missing, or of another type."""
    lacking = [key for key in ("version", "spec", "names", "row", "fused", "state_dict") if key not in raw]
    version = raw.get("version")
    if lacking or type(version) is not int or version != 1:
        has = shown(version, 20) if isinstance(version, str | int | float) else type(version).__name__
        what = f"lacks {', '.join(lacking)}" if lacking else f"has version {has}, not 1"
        raise CheckpointError(f"{path.name} {what}: it was written by another release of yolov9bench")
    row, fused = raw["row"], raw["fused"]
    if type(fused) is not bool or not (row is None or is_name(row)):
        raise CheckpointError(f"{path.name} has no text as its 'row', or no bool as 'fused': save it again")
    return OwnFacts(parse_spec(path, raw["spec"]), row, fused)


def parse_spec(path: Path, raw: object) -> Spec:
    """The Spec in a file of our own; CheckpointError for fields that are missing, unknown or out of range."""
    try:
        table = as_table(raw)
        spec = as_dataclass(Spec, table if isinstance(table, dict) else {}, "spec.")
    except (SettingsError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} describes no network of ours ({shown(error, 200)}): save it again"
        ) from error
    for name, value in numbers_of(spec):
        most = DEEPEST if name == "depth" else WIDEST
        if not 1 <= value <= most:
            raise CheckpointError(
                f"{path.name} describes a network with {name} {value}, not 1 to {most}: save it again"
            )
    if not is_name(spec.name):
        raise CheckpointError(f"{path.name} has a network without a name of text: save it again")
    return spec


def as_table(value: object, depth: int = 0) -> Any:
    """A value as a TOML file would have it: tuples as lists, nothing for None.

    Raises ValueError for tables that are deeper or longer than a Spec's, and for values of other types.
    """
    if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_TEXT):
        return value
    if depth > DEEPEST_TABLE or not isinstance(value, dict | list | tuple) or len(value) > MOST_ITEMS:
        raise ValueError(f"a {kind_of(value)} is in the place of a value")
    if isinstance(value, dict):
        if not all(isinstance(key, str) and len(key) <= LONGEST_TEXT for key in value):
            raise ValueError("a key is no short text")
        return {key: as_table(each, depth + 1) for key, each in value.items() if each is not None}
    return [as_table(each, depth + 1) for each in value]


def numbers_of(table: Any) -> Iterator[tuple[str, int]]:
    """Every width and depth of a Spec, with the name of its field."""
    for each in fields(table):
        value = getattr(table, each.name)
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from numbers_of(part)
            elif type(part) is int:
                yield each.name, part


def is_name(value: object) -> bool:
    """Whether this is a short text that prints."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()


def parse_class_names(path: Path, names: object) -> dict[int, str] | None:
    """Class names by label, from a dict or a sequence; None where the file has none.

    CheckpointError for labels that are no numbers or stand twice, and for names that are no short texts.
    What is in a name is not judged: messages escape it.
    """
    if not isinstance(names, dict | list | tuple):
        return None
    require_few_classes(path, len(names))
    if not isinstance(names, dict):
        return {label: parse_name(path, name) for label, name in enumerate(names)} or None
    spelt = [str(label) if type(label) in (int, str) else f"<{type(label).__name__}>" for label in names]
    if not all(LABEL.fullmatch(label) for label in spelt):
        raise CheckpointError(
            f"{path.name}: its classes have the labels {first_three(spelt)}, not all numbers: save them again"
        )
    parsed = {int(label): parse_name(path, name) for label, name in zip(spelt, names.values(), strict=True)}
    if len(parsed) < len(names):
        raise CheckpointError(f"{path.name} gives two classes the same label: save them again")
    return parsed or None


def require_few_classes(path: Path, classes: int) -> None:
    """CheckpointError for more class names than any detector has."""
    if classes > MOST_CLASSES:
        raise CheckpointError(
            f"{path.name} names {classes} classes, more than {MOST_CLASSES}: save them again"
        )


def parse_name(path: Path, name: object) -> str:
    """A class name; YAML files make numbers of some."""
    text = str(name) if type(name) in (str, int, float, bool, type(None)) else None
    if text is None or len(text) > LONGEST_TEXT or not is_encodable(text):
        what = f"'{shown(text, 40)}'" if text is not None else f"a {kind_of(name)}"
        raise CheckpointError(f"{path.name} has {what} as the name of a class: save a short text there")
    return text


def kind_of(value: object) -> str:
    """What a value is, without looking into it."""
    return shown(value.path, 40) if isinstance(value, Inert) else type(value).__name__


def is_encodable(text: str) -> bool:
    """Whether a text can be written to a file: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The tables of a TOML file as dataclasses: every key and value checked against the annotated fields."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from yolov9bench.errors import MOST_INTEGER, SettingsError, shown_value, unknown

TYPE_NAMES: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
}

Form = TypeVar("Form")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds; SettingsError for a file that cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): give a TOML file") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise SettingsError(f"{path} is not valid TOML ({error}): correct it") from error


def as_dataclass(form: type[Form], table: Mapping[str, Any], place: str) -> Form:
    """A dataclass from a table, field by field, dataclasses within it likewise.

    place: what an error names before the key, as in "row.toml: protocol.". SettingsError: a key that no field
    has, with the likely one; a field without a default that has no key; a value of another type.
    """
    known: dict[str, Field[Any]] = {each.name: each for each in fields(form)}  # type: ignore[arg-type]
    hints = get_type_hints(form)
    for key in table:
        if key not in known:
            raise SettingsError(f"{place.rstrip('.: ')}: {unknown('key', key, known)}")
    for name, each in known.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            raise SettingsError(f"{place}{name} is missing: give {describe(hints[name])}")
    return form(**{key: as_value(hints[key], value, place + key) for key, value in table.items()})


def as_value(hint: Any, value: Any, place: str) -> Any:
    """A value as its annotation wants it; SettingsError names its place and what to give."""
    for option in _options(hint):
        if is_dataclass(option) and isinstance(option, type) and isinstance(value, dict):
            return as_dataclass(option, value, f"{place}.")
        if get_origin(option) is tuple and isinstance(value, list):
            return _as_tuple(get_args(option), value, place)
        if get_origin(option) is Literal and value in get_args(option):
            return value
        if type(value) in (option, get_origin(option)):  # of a dict the keys are looked at elsewhere
            return value
        if option is float and type(value) is int and abs(value) <= MOST_INTEGER:
            return float(value)
    choices = [
        each for option in _options(hint) if get_origin(option) is Literal for each in get_args(option)
    ]
    if isinstance(value, str) and choices:
        raise SettingsError(f"{place}: {unknown('choice', value, map(str, choices))}")
    raise SettingsError(f"{place} is {shown_value(value)}: give {describe(hint)}")


def describe(hint: Any) -> str:
    """What an annotation accepts, in words."""
    words = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            words.append(" or ".join(map(str, get_args(option))))
        else:
            words.append(TYPE_NAMES.get(get_origin(option) or option, "a table"))
    return " or ".join(words)


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation but None, which TOML does not have."""
    several = get_origin(hint) in (Union, UnionType)
    return tuple(each for each in (get_args(hint) if several else (hint,)) if each is not NoneType)


def _as_tuple(parts: tuple[Any, ...], values: list[Any], place: str) -> tuple[Any, ...]:
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(values)
    if len(parts) != len(values):
        raise SettingsError(f"{place} has {len(values)} values: give {len(parts)}")
    return tuple(
        as_value(hint, value, f"{place}[{index}]")
        for index, (hint, value) in enumerate(zip(parts, values, strict=True))
    )

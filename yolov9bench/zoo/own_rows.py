"""A row of one's own from a TOML file, as an object like those of the table; none of them is listed anywhere.

    id = "my-yolov9-t"
    spec = "yolov9-t"                  # a network of `zoo.specs`, or a table with the fields of a Spec
    checkpoint = "runs/t/best.pt"      # as seen from this file
    protocol = "yolov9"                # or a table: {base = "yolov9", name = "mine", nms_iou = 0.6}
    published = {box_ap = 50.1, source = "table 2 of our report"}

A detector that is a function has `detector = "my.py:detect"` in place of spec, checkpoint and protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from yolov9bench.errors import SettingsError, require_present, unknown
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS, Protocol
from yolov9bench.zoo.recipes import find_recipe
from yolov9bench.zoo.rows import AUTO_SOURCE, ROWS, Family, Published, Row, Source
from yolov9bench.zoo.specs import SPECS, Spec, with_class_width
from yolov9bench.zoo.toml_values import as_dataclass, read_toml

ID = re.compile(r"[\w-][\w.-]*")
FAMILIES: tuple[Family, ...] = get_args(Family)
OF_A_NETWORK = ("spec", "checkpoint", "protocol", "family", "source", "recipe")


@dataclass(frozen=True)
class RowFile:
    """The keys of the file; spec and protocol are names or tables, and a published AP is in percent.

    `family` and `source` follow from the name of a Spec of the table, and are needed beside a Spec of one's
    own: `source` says by whose rule the class branch widens. `recipe` is the name of one, for a training.
    """

    id: str
    spec: str | Spec | None = None
    checkpoint: str | None = None
    protocol: str | dict[str, Any] | None = None
    detector: str | None = None
    published: Published | None = None
    family: Family | None = None
    source: Source | None = None
    recipe: str | None = None
    licence: str = "not stated"


@dataclass(frozen=True)
class OwnRow:
    """What a file describes: a Row and the file of its weights, or else the function that detects.

    `detector` is as `--detector` takes it, with the path as seen from the working directory.
    """

    id: str
    published: Published | None = None
    row: Row | None = None
    checkpoint: Path | None = None
    detector: str | None = None


def read_own_row(path: str | Path) -> OwnRow:
    """The row that a TOML file describes; SettingsError names the file, the key and the remedy."""
    path = Path(path)
    require_present("row", path)
    table, place = read_toml(path), f"{path.name}: "
    stated = as_dataclass(RowFile, table, place)
    _check_id(stated.id, place)
    _check_published(stated.published, place)
    if stated.detector is not None:
        also = next((key for key in OF_A_NETWORK if key in table), None)
        if also:
            raise SettingsError(f"{place}{also} cannot go with detector, which does all itself: leave it out")
        file, colon, function = stated.detector.rpartition(":")
        is_file = colon and file.endswith(".py")
        detector = f"{path.parent / file}:{function}" if is_file else stated.detector
        return OwnRow(stated.id, stated.published, detector=detector)
    for key in ("spec", "checkpoint", "protocol"):
        if key not in table:
            raise SettingsError(f"{place}{key} is missing: give it, or a detector in place of all three")
    checkpoint = path.parent / str(stated.checkpoint)
    require_present(f"{place}checkpoint", checkpoint)
    return OwnRow(stated.id, stated.published, _make_row(stated, place), checkpoint)


def _make_row(stated: RowFile, place: str) -> Row:
    spec = _find_spec(stated.spec, place)
    is_named = isinstance(stated.spec, str)
    family = stated.family or next((each for each in FAMILIES if is_named and each in spec.name), None)
    if family is None:
        raise SettingsError(
            f"{place}family is missing beside a spec of your own: give yolov8, yolov9 or gelan"
        )
    return Row(
        id=stated.id,
        family=family,
        size=stated.id,
        source=stated.source or _source_of(spec.name if is_named else "", family),
        spec=spec,
        recipe=None if stated.recipe is None else find_recipe(stated.recipe),
        backbone=spec.name,
        protocol=_find_protocol(stated.protocol or {}, place),
        licence=stated.licence,
        published=stated.published or Published("not stated"),
        assets=(),
    )


def _source_of(spec_name: str, family: Family) -> Source:
    return "ultralytics" if spec_name.startswith("ultralytics") else AUTO_SOURCE[family]


def _find_spec(stated: str | Spec | None, place: str) -> Spec:
    if isinstance(stated, Spec):
        return stated
    if stated not in SPECS:
        raise SettingsError(f"{place}{unknown('spec', str(stated), SPECS)}")
    return SPECS[stated]


def _find_protocol(stated: str | Mapping[str, Any], place: str) -> Protocol:
    """The protocol of a name, or that of a table: a base's settings with others, under a name of its own."""
    if isinstance(stated, str):
        if stated not in PROTOCOLS:
            raise SettingsError(f"{place}{unknown('protocol', stated, PROTOCOLS)}")
        return PROTOCOLS[stated]
    settings = {key: value for key, value in stated.items() if key != "base"}
    base = stated.get("base")
    if "name" not in settings or settings["name"] in (*PROTOCOLS, MMYOLO_TTA.name, "own"):
        raise SettingsError(f"{place}protocol.name must be one that no protocol has: give a name of your own")
    if base is None:
        return as_dataclass(Protocol, settings, f"{place}protocol.")
    known = _find_protocol(base, f"{place}protocol.base: ") if isinstance(base, str) else None
    if known is None:
        raise SettingsError(f"{place}protocol.base is {base!r}: give the name of a protocol")
    whole = {**_plain(known), **settings}
    return as_dataclass(Protocol, whole, f"{place}protocol.")


def _plain(protocol: Protocol) -> dict[str, Any]:
    """A protocol as TOML would hold it, where a tuple is a list."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(protocol).items()
    }


def _check_id(name: str, place: str) -> None:
    if not ID.fullmatch(name):
        raise SettingsError(f"{place}id is {name!r}: give letters, digits, dots and hyphens")
    if name.lower() in (*ROWS, "custom"):
        raise SettingsError(f"{place}id is {name!r}, which the table has already: give a name of your own")


def _check_published(published: Published | None, place: str) -> None:
    """A published AP is in percent: one of at most 1 is taken for a fraction."""
    ap = None if published is None else published.box_ap
    if ap is not None and not 1 < ap <= 100:
        raise SettingsError(f"{place}published.box_ap is {ap:g}: give percent, above 1 and at most 100")


def has_network_of(row: Row, spec: Spec) -> bool:
    """Whether a file's network is that of a row.

    Names, the auxiliary branch and the class branch's width, which follows the class count, do not count.
    """
    return _compared(spec) == _compared(row.spec)


def _compared(spec: Spec) -> Spec:
    return replace(with_class_width(spec, 0), name="", aux=None, aux_head=None)

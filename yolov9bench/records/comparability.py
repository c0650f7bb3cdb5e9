"""The one rule for "may this record stand in this column of this row?"; verdict and table ask only it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from yolov9bench.errors import RecordError
from yolov9bench.io.git import run_git
from yolov9bench.io.progress import counted
from yolov9bench.io.provenance import Environment
from yolov9bench.records.contents import (
    PARITY,
    UNPINNED,
    Download,
    EvaluateContents,
    EvaluateInputs,
    EvaluateSettings,
    read_evaluate,
)
from yolov9bench.records.record import Record, as_stored
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.protocols import MMYOLO_TTA, Protocol
from yolov9bench.zoo.rows import ROWS, Row, row_of_file, unlike
from yolov9bench.zoo.specs import SPECS

Column = Literal["box AP", "TTA box AP"]

VAL2017 = SPLITS["val2017"]
CLOCKS_DIFFER = timedelta(days=1)  # a start that lies further ahead than this was not measured
HASH_UNPINNED = "hash unpinned"
# Measured on synthetic data whose true AP is known: CONTRIBUTING.md, "Intervals".
PERCENTILE_CAVEAT = (
    "It is a bootstrap's percentile interval, which lies high on few images: of 60 synthetic sets of 100 "
    "images it covered the true AP of 48, where 95 % promises 57, and lay above it in the other 12."
)


def read_stated(record: Record) -> EvaluateContents:
    """What an evaluation states; nothing at all if a value has a wrong type, which `obstacles` names."""
    try:
        return read_evaluate(record)
    except RecordError:
        return read_evaluate(replace(record, values={}, settings={}, inputs={}, environment={}))


def column_of(record: Record) -> Column:
    """The column that an evaluation is meant for: several views make it one of test-time augmentation."""
    settings = read_stated(record).settings
    is_augmented = settings.has_several_views or settings.protocol_name == MMYOLO_TTA.name
    return "TTA box AP" if is_augmented else "box AP"


def own_protocol(row: Row, column: Column) -> Protocol | None:
    """The protocol under which a row's figure in a column is measured; None where there is none."""
    return row.protocol if column == "box AP" else row.tta_protocol


def row_of(record: Record) -> Row | None:
    """The row that a record is of; None for a custom one, or a row that the zoo does not have."""
    return ROWS.get(record.row or "")


def ap_of(record: Record) -> float | None:
    """The AP that a record states, 0..1; None where it states none that can be."""
    ap = read_stated(record).values.AP
    return float(ap) if ap is not None and 0 <= ap <= 1 else None


def obstacles(record: Record, now: datetime | None = None) -> list[str]:
    """Why an evaluation may not stand in its column of its row, a few words each; empty if it may.

    It may if it ran the whole protocol of the row's own (every setting equal, none missing or added), on all
    5,000 images of val2017, without a choice of classes, with the row's own weights, by code committed in
    this checkout, and states an AP. Without a checkout, as in an installed package, and in a shallow one,
    which holds only the newest commits, it is unknown whether a commit exists: then its form alone counts.
    `now` is UTC, the clock's if omitted.
    """
    row = row_of(record)
    if row is None:
        return ["unknown checkpoint"]
    try:
        stated = read_evaluate(record)
    except RecordError as error:
        return [str(error)]
    if stated.inputs.own is not None:
        return ["a detector of one's own, which is in no row"]
    return [
        *_weights_faults(stated.inputs, row),
        *_data_faults(stated.inputs),
        *_class_faults(stated.settings),
        *_evaluator_faults(stated.settings),
        *_precision_faults(stated.settings),
        *_protocol_faults(stated.settings, own_protocol(row, column_of(record)), row),
        *_code_faults(stated.environment),
        *_value_faults(record, stated.values.AP, now or datetime.now(UTC)),
    ]


def own_obstacles(record: Record, now: datetime | None = None) -> list[str]:
    """Why an evaluation of a detector of one's own is not comparable with the figure stated for it.

    It is if it ran the whole stated protocol, of a function its own, on all of val2017, as `obstacles` says
    of a row; which weights or function ran is what the record states. `now` as there.
    """
    stated = read_stated(record)
    own = stated.inputs.own
    if own is None:
        return ["no detector of one's own"]
    return [*image_obstacles(record, now), *_unlike(stated.settings, own.protocol or {}, "stated")]


def image_obstacles(record: Record, now: datetime | None = None) -> list[str]:
    """Why an evaluation is none on all of val2017 by committed code, whatever detected; `now` as above."""
    stated = read_stated(record)
    return [
        *_data_faults(stated.inputs),
        *_class_faults(stated.settings),
        *_code_faults(stated.environment),
        *_value_faults(record, stated.values.AP, now or datetime.now(UTC)),
    ]


def is_unpinned(record: Record) -> bool:
    """Whether the weights are what the row's own download brought, under a hash that is not published."""
    row, inputs = row_of(record), read_stated(record).inputs
    has_known_hash = row_of_file(str(inputs.weights_sha256)) is not None
    return row is not None and not has_known_hash and not _weights_faults(inputs, row)


def is_clean(environment: Environment) -> bool:
    """Whether a commit, and nothing else, names the code that ran."""
    return environment.dirty is False


def differences(found: Any, own: Any, path: str = "") -> list[str]:
    """Where plain data differs from what it should be, each path as in nms_iou or views[1].flipped.

    A key that one side lacks is a difference, and so is True for 1.
    """
    if isinstance(own, dict) and isinstance(found, dict):
        faults: list[str] = []
        for key in {**own, **found}:
            name = f"{path}.{key}".lstrip(".")
            shared = key in own and key in found
            faults += differences(found[key], own[key], name) if shared else [name]
        return faults
    if isinstance(own, list) and isinstance(found, list) and len(own) == len(found):
        pairs = enumerate(zip(found, own, strict=True))
        return [fault for index, pair in pairs for fault in differences(*pair, f"{path}[{index}]")]
    return [] if found == own and isinstance(found, bool) == isinstance(own, bool) else [path]


def _weights_faults(inputs: EvaluateInputs, row: Row) -> list[str]:
    """A known hash settles it; an unknown one needs the note of the row's own download and its content."""
    classes, sha256 = inputs.classes, str(inputs.weights_sha256)
    known = row_of_file(sha256)
    faults = [] if classes == 80 else [f"{'unknown' if classes is None else classes} classes, not 80"]
    if known is not None:
        return faults if known[0].id == row.id else ["weights other than the published ones", *faults]
    asset, download = row.download, inputs.download
    if download is None or asset.strict or not re.fullmatch("[0-9a-f]{64}", sha256):
        return ["weights other than the published ones", *faults]
    if download != Download(url=asset.url, bytes=download.bytes, hash=UNPINNED):
        return ["weights other than the published ones", *faults]
    if download.bytes is None or download.bytes < 1:
        faults.append(f"weights of {download.bytes} bytes")
    content = unlike(row, str(inputs.format), SPECS.get(str(inputs.spec)), classes=80)
    return faults + [f"weights of another {fault}" for fault in content]


def _data_faults(inputs: EvaluateInputs) -> list[str]:
    images, skipped, whole = inputs.images, inputs.images_skipped, VAL2017.images
    found = []
    if inputs.demo is not False:
        found.append("the embedded demo set")
    elif inputs.annotations_sha256 != VAL2017.annotations_sha256:
        found.append(f"{count_text(images, 'images')} that are not the whole of COCO val2017")
    elif images != whole:
        found.append(f"{count_text(images)} of {whole:,} images")
    if skipped != []:
        found.append(f"{count_text(None if skipped is None else len(skipped), 'images')} skipped")
    return found


def _class_faults(settings: EvaluateSettings) -> list[str]:
    """A choice is refused whatever it is, even of all; a record without the key is older than choices."""
    chosen = settings.classes or {}
    return [f"{len(chosen)} chosen {'class' if len(chosen) == 1 else 'classes'}"] if chosen else []


def _evaluator_faults(settings: EvaluateSettings) -> list[str]:
    """Older records do not say how the evaluator was set; the newest have its own word for it."""
    evaluator = settings.evaluator
    return [] if evaluator is None or evaluator.provenance == PARITY else ["metrics other than COCO's own"]


def count_text(count: int | None, unit: str = "") -> str:
    """A count, with its unit in the plural if there is one; in words where it is not stated."""
    if count is None:
        return f"an unknown number of {unit}".rstrip()
    return counted(count, unit) if unit else f"{count:,}"


def _precision_faults(settings: EvaluateSettings) -> list[str]:
    """Published figures are of float32, and so is every detector whose record states no type."""
    return [] if settings.dtype in (None, "float32") else [f"computed in {settings.dtype}"]


def _protocol_faults(settings: EvaluateSettings, own: Protocol | None, row: Row) -> list[str]:
    name = settings.protocol_name
    if own is None:
        return [f"protocol {name}, which is not defined for the row's {row.protocol.name}"]
    return _unlike(settings, as_stored(own), "row's")


def _unlike(settings: EvaluateSettings, own: dict[str, Any], whose: str) -> list[str]:
    """What of a protocol did not run as `own` has it, as a record stores one; whose: as in "row's"."""
    name = settings.protocol_name
    if name != own.get("name"):
        return [f"protocol {name}, not the {whose} {own.get('name')}"]
    changed = differences(as_stored(settings.protocol), own)
    return [f"protocol {name} with another {', '.join(changed)}"] if changed else []


def _code_faults(environment: Environment) -> list[str]:
    found, commit = [] if is_clean(environment) else ["uncommitted code"], environment.commit
    if commit is None:
        found.append("code of no commit")
    elif not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        found.append(f"commit {commit!r}, which cannot be one")
    elif not commit_exists(commit):
        found.append(f"commit {commit[:12]}, which this checkout does not have")
    return found


def _value_faults(record: Record, ap: float | None, now: datetime) -> list[str]:
    found = []
    if ap is None:
        found.append("no AP")
    elif not 0 <= ap <= 1:
        found.append(f"AP {ap}, which is not within 0..1")
    if datetime.fromisoformat(record.start) > now + CLOCKS_DIFFER:
        found.append(f"start {record.start}, which lies in the future")
    if record.kind != "evaluate":
        found.append(f"a record of kind {record.kind}")
    return found


@cache
def commit_exists(commit: str, root: Path = Path(__file__).parents[2]) -> bool:
    """Whether the checkout in `root` has this commit; True where that cannot be told.

    That is where there is no checkout, no git, or a shallow clone that lacks it.
    """
    if not (root / ".git").exists():
        return True
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}") == (0, ""):
        return True
    status, shallow = _git(root, "rev-parse", "--is-shallow-repository")
    return status != 0 or shallow == "true"


def _git(root: Path, *arguments: str) -> tuple[int, str]:
    """Status and output; status 127 where git is not installed."""
    try:
        done = run_git(root, *arguments)
    except OSError:
        return 127, ""
    return done.returncode, done.stdout.strip()

"""The one rule for "may this record stand in this column of this row?"; verdict and table ask only it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from yolov9bench.io.git import run_git
from yolov9bench.records.record import Record, as_stored
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.protocols import MMYOLO_TTA, Protocol
from yolov9bench.zoo.rows import ROWS, Row, row_of_file, unlike
from yolov9bench.zoo.specs import SPECS

Column = Literal["box AP", "TTA box AP"]

VAL2017 = SPLITS["val2017"]
CLOCKS_DIFFER = timedelta(days=1)  # a start that lies further ahead than this was not measured
HASH_UNPINNED = "hash unpinned"
# Measured on synthetic data: 60 sets of 100 images whose true AP is known. 57 would be 95 %.
INTERVAL_CAVEAT = (
    "It is a percentile interval, which lies high on few images: of 60 synthetic sets of 100 images it "
    "covered the true AP of 48, where 95 % promises 57, and lay above it in the other 12."
)


def column_of(record: Record) -> Column:
    """The column that an evaluation is meant for: several views make it one of test-time augmentation."""
    settings = _protocol(record)
    views = settings.get("views")
    has_several_views = isinstance(views, list | tuple) and len(views) > 1
    is_augmented = has_several_views or settings.get("name") == MMYOLO_TTA.name
    return "TTA box AP" if is_augmented else "box AP"


def own_protocol(row: Row, column: Column) -> Protocol | None:
    """The protocol under which a row's figure in a column is measured; None where there is none."""
    return row.protocol if column == "box AP" else row.tta_protocol


def row_of(record: Record) -> Row | None:
    """The row that a record is of; None for a custom one, or a row that the zoo does not have."""
    return ROWS.get(record.row or "")


def ap_of(record: Record) -> float | None:
    """The AP that a record states, 0..1; None where it states none that can be."""
    ap: Any = record.values.get("AP")
    return float(ap) if _is_number(ap) and 0 <= ap <= 1 else None


def obstacles(record: Record, now: datetime | None = None) -> list[str]:
    """Why an evaluation may not stand in its column of its row, a few words each; empty if it may.

    It may if it ran the whole protocol of the row's own (every setting equal, none missing or added), on all
    5,000 images of val2017, with the row's own weights, by code committed in this checkout, and states
    an AP. Without a checkout, as in an installed package, and in a shallow one, which holds only the newest
    commits, nothing tells whether a commit exists: then its form alone counts. `now` is UTC, the clock's if
    omitted.
    """
    row = row_of(record)
    if row is None:
        return ["unknown checkpoint"]
    return [
        *_weights_faults(record, row),
        *_data_faults(record),
        *_protocol_faults(record, row),
        *_code_faults(record),
        *_value_faults(record, now or datetime.now(UTC)),
    ]


def is_unpinned(record: Record) -> bool:
    """Whether the weights are what the row's own download brought, under a hash that is not published."""
    row = row_of(record)
    return row is not None and not _has_known_hash(record) and not _weights_faults(record, row)


def is_clean(record: Record) -> bool:
    """Whether a commit, and nothing else, names the code that ran."""
    return record.environment.get("dirty") is False


def differences(found: Any, own: Any, place: str = "") -> list[str]:
    """Where plain data differs from what it should be, each place as in nms_iou or views[1].flipped.

    A key that one side lacks is a difference, and so is True for 1.
    """
    if isinstance(own, dict) and isinstance(found, dict):
        faults: list[str] = []
        for key in {**own, **found}:
            name = f"{place}.{key}".lstrip(".")
            shared = key in own and key in found
            faults += differences(found[key], own[key], name) if shared else [name]
        return faults
    if isinstance(own, list) and isinstance(found, list) and len(own) == len(found):
        pairs = enumerate(zip(found, own, strict=True))
        return [fault for index, pair in pairs for fault in differences(*pair, f"{place}[{index}]")]
    return [] if found == own and isinstance(found, bool) == isinstance(own, bool) else [place]


def _weights_faults(record: Record, row: Row) -> list[str]:
    """A known hash settles it; an unknown one needs the note of the row's own download and its content."""
    inputs = record.inputs
    sha256 = str(inputs.get("weights_sha256"))
    known = row_of_file(sha256)
    faults = [] if inputs.get("classes") == 80 else [f"{inputs.get('classes', 'unknown')} classes, not 80"]
    if known is not None:
        return faults if known[0].id == row.id else ["weights other than the published ones", *faults]
    asset = row.download
    download: Any = inputs.get("download")
    fetched = isinstance(download, dict) and not asset.strict and re.fullmatch("[0-9a-f]{64}", sha256)
    if not fetched or download != {"url": asset.url, "bytes": download.get("bytes"), "hash": "unpinned"}:
        return ["weights other than the published ones", *faults]
    size = download["bytes"]
    if type(size) is not int or size < 1:
        faults.append(f"weights of {size} bytes")
    spec = SPECS.get(str(inputs.get("spec")))
    content = unlike(row, str(inputs.get("format")), spec, classes=80)
    return faults + [f"weights of another {fault}" for fault in content]


def _has_known_hash(record: Record) -> bool:
    return row_of_file(str(record.inputs.get("weights_sha256"))) is not None


def _data_faults(record: Record) -> list[str]:
    inputs, whole = record.inputs, VAL2017.images
    images = inputs.get("images")
    counted = f"{images:,}" if type(images) is int else "an unknown number of"
    found = []
    if inputs.get("demo") is not False:
        found.append("the embedded demo set")
    elif inputs.get("annotations_sha256") != VAL2017.annotations_sha256:
        found.append(f"{counted} images that are not the whole of COCO val2017")
    elif images != whole:
        found.append(f"{counted} of {whole:,} images")
    skipped = inputs.get("images_skipped")
    if skipped != []:
        count = len(skipped) if isinstance(skipped, list) else "an unknown number of"
        found.append(f"{count} images skipped")
    return found


def _protocol_faults(record: Record, row: Row) -> list[str]:
    settings, own = _protocol(record), own_protocol(row, column_of(record))
    name = settings.get("name")
    if own is None:
        return [f"protocol {name}, which is not defined for the row's {row.protocol.name}"]
    if name != own.name:
        return [f"protocol {name}, not the row's {own.name}"]
    changed = differences(as_stored(settings), as_stored(own))
    return [f"protocol {own.name} with another {', '.join(changed)}"] if changed else []


def _code_faults(record: Record) -> list[str]:
    found = [] if is_clean(record) else ["uncommitted code"]
    commit = record.environment.get("commit")
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        found.append("code of no commit" if commit is None else f"commit {commit!r}, which cannot be one")
    elif not commit_exists(commit):
        found.append(f"commit {commit[:12]}, which this checkout does not have")
    return found


def _value_faults(record: Record, now: datetime) -> list[str]:
    found, ap = [], record.values.get("AP")
    if ap is None:
        found.append("no AP")
    elif not _is_number(ap):
        found.append(f"AP {ap!r}, which is not a number")
    elif ap_of(record) is None:
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


def _protocol(record: Record) -> dict[str, Any]:
    settings = record.settings.get("protocol")
    return settings if isinstance(settings, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

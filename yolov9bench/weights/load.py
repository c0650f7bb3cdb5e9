"""Load any known checkpoint into our Detector: find its Spec, map every key, check every shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from yolov9bench.errors import CheckpointError, printable
from yolov9bench.io.files import atomic_path, sha256_of
from yolov9bench.nn.detector import Detector, skeleton
from yolov9bench.weights.complete import as_plain_tensors, require_complete
from yolov9bench.weights.formats import Contents, read_contents
from yolov9bench.weights.identify import identify_spec
from yolov9bench.weights.names import Format, rename_table
from yolov9bench.zoo.specs import Spec


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A detector with what its file says of it.

    `names`: class names by label, None where the file has none. `dropped`: the keys, or entries, of the file
    that the detector does not hold. `fused` and `parameters_trainable` describe the file's network, auxiliary
    branch included and the frozen DFL projection excluded. `row`: set in our own files alone. `path`: the
    file.
    """

    detector: Detector
    spec: Spec
    names: dict[int, str] | None
    format: Format
    flavour: str
    sha256: str
    dropped: tuple[str, ...]
    fused: bool
    parameters_trainable: int
    row: str | None = None
    path: Path | None = None

    @property
    def is_own(self) -> bool:
        """Whether the file is one that a training here may have written."""
        return self.format == "yolov9bench"

    def __repr__(self) -> str:
        classes = self.detector.num_classes
        return (
            f"<{self.spec.name}, {classes} classes, {self.format} {self.flavour}, sha256 {self.sha256[:8]}>"
        )


def load(path: str | Path, training: bool = False) -> Checkpoint:
    """Read a checkpoint of any known format; no code from the file runs.

    training=False: the network that detects, without its auxiliary branch, in eval mode (`deployed()` folds
    it). training=True: the graph as the file has it, auxiliary branch included, in train mode. Both float32.
    Raises CheckpointError naming the offending key, shape, format or file.
    """
    path = Path(path)
    with reading(path):
        return fill_detector(path, read_contents(path), training)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make every failure to read a file's content a CheckpointError of one printable line.

    What a damaged file can make of the libraries below cannot be listed, so nothing is left out. Raises
    CheckpointError too if the file is another one at the end than at the beginning.
    """
    before = state_of(path)
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(printable(str(error))) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(
            printable(f"{path.name} cannot be read ({reason}): check the disk, or fetch it again")
        ) from error
    except Exception as error:
        kind = type(error).__name__
        raise CheckpointError(
            printable(f"{path.name} is damaged, its content cannot be read ({kind}): fetch it again")
        ) from error
    if state_of(path) != before:
        raise CheckpointError(
            printable(f"{path.name} was changed while it was read: try again when it is written")
        )


def state_of(path: Path) -> tuple[int, ...] | None:
    """What tells a file from a later one of the same path; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a NUL is a ValueError
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def fill_detector(path: Path, contents: Contents, training: bool) -> Checkpoint:
    """The detector that a file describes, with its numbers."""
    spec, classes = identify_spec(path, contents)
    fused = not any(key.endswith(".running_mean") for key in contents.tensors)
    if contents.own is not None:
        fused = contents.own.fused
    if fused and training:
        raise CheckpointError(
            f"{path.name} has its BatchNorm folded away and cannot be trained: take an unfused file"
        )
    detector = build_skeleton(path, spec, classes, fused)
    table = rename_table(spec, contents.format, detector.state_dict())
    dropped = require_complete(path, contents, detector, table)
    detector.load_state_dict(as_plain_tensors(path, contents, detector, table), assign=True)
    trainable = sum(parameter.numel() for parameter in detector.parameters())
    if not training:
        detector = detector.eval().without_aux()
        dropped += tuple(foreign for own, foreign in table.items() if own.startswith("aux."))
    return Checkpoint(
        detector,
        detector.spec,
        contents.names,
        contents.format,
        contents.flavour,
        sha256_of(path),
        contents.dropped + dropped,
        fused,
        trainable,
        contents.own.row if contents.own is not None else None,
        path,
    )


def build_skeleton(path: Path, spec: Spec, classes: int, fused: bool) -> Detector:
    """The network to fill; CheckpointError where a file of our own format describes an impossible one."""
    try:
        return skeleton(spec, classes, fused)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} describes a network whose widths do not fit together: save it again"
        ) from error


def inspect(path: str | Path) -> dict[str, Any]:
    """What a checkpoint is, as plain data: format, flavour, head form, Spec, classes, parameters, hash."""
    checkpoint = load(path)
    return {
        "format": checkpoint.format,
        "flavour": checkpoint.flavour,
        "head": checkpoint.spec.head.form,
        "fused": checkpoint.fused,
        "spec": checkpoint.spec.name,
        "num_classes": checkpoint.detector.num_classes,
        "names": checkpoint.names,
        "parameters_trainable": checkpoint.parameters_trainable,
        "sha256": checkpoint.sha256,
    }


def save(
    path: Path,
    detector: Detector,
    names: Mapping[int, str] | None,
    row: str | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write our own format, atomically: tensors and plain metadata, readable with `weights_only=True`.

    `training` is what a run needs to resume; `load` ignores it. StorageError for a full or forbidden disk.
    """
    contents = {
        "format": "yolov9bench",
        "version": 1,
        "spec": asdict(detector.spec),
        "names": dict(names) if names is not None else None,
        "row": row,
        "fused": detector.fused,
        "state_dict": detector.state_dict(),
        **({} if training is None else {"training": dict(training)}),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(contents, file)
        except RuntimeError as error:
            raise failed_write(error) from error


def failed_write(error: BaseException) -> BaseException:
    """The system's error, or the stop, behind one of torch's writer, which tells the position alone."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError) and isinstance(cause, Exception):
        cause = cause.__context__
    return error if cause is None else cause

"""Load any known checkpoint into our Detector: find its Spec, map every key, check every shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.io.files import atomic_path, sha256_of
from yolov9bench.nn.detector import Detector, skeleton
from yolov9bench.weights.formats import Contents, read_contents
from yolov9bench.weights.names import Format, is_constant, rename_table
from yolov9bench.zoo.specs import (
    GELAN,
    SPECS,
    ULTRALYTICS_YOLOV9,
    YOLOV8,
    YOLOV9,
    Reference,
    Spec,
    for_classes,
    spec_from_dict,
)

CANDIDATES: Mapping[Format, tuple[Spec, ...]] = {
    "official": (*YOLOV9, *GELAN),
    "ultralytics": (*YOLOV8, *ULTRALYTICS_YOLOV9),
    "mmyolo": YOLOV8,
    "multimediatechlab": YOLOV9,
}
REFERENCES: Mapping[Format, Reference] = {
    "official": "official",
    "ultralytics": "ultralytics",
    "mmyolo": "mmyolo",
    "multimediatechlab": "official",
}


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A detector with what its file says of it.

    `names`: class names by label, None where the file has none. `dropped`: the keys, or entries, of the file
    that the detector does not hold. `fused` and `parameters_trainable` describe the file's network, auxiliary
    branch included and the frozen DFL projection excluded. `row`: set in our own files alone.
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
    contents = read_contents(path)
    spec, classes = identify_spec(path, contents)
    fused = not any(key.endswith(".running_mean") for key in contents.tensors)
    if contents.format == "yolov9bench":
        fused = bool(contents.facts["fused"])
    if fused and training:
        raise CheckpointError(
            f"{path.name} has its BatchNorm folded away and cannot be trained: take an unfused file"
        )
    detector = skeleton(spec, classes, fused)
    table = rename_table(spec, contents.format, detector.state_dict())
    dropped = require_complete(path, contents, detector, table)
    filled = {own: as_float32(contents.tensors[foreign]) for own, foreign in table.items()}
    detector.load_state_dict(filled, assign=True)
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
        contents.facts.get("row"),
    )


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
    """The system's error behind one of torch's writer, which tells the position alone; else that one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return error if cause is None else cause


def identify_spec(path: Path, contents: Contents) -> tuple[Spec, int]:
    """The Spec whose blocks stand where the file's do, with the file's head widths, and its class count."""
    if contents.format == "yolov9bench":
        try:
            spec = spec_from_dict(contents.facts["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path.name} describes no network of ours ({error!r}): save it again"
            ) from error
        return spec, class_count(path, contents, spec)
    candidates = CANDIDATES[contents.format]
    fits = {spec: shape_agreement(contents, spec) for spec in candidates}
    best = max(candidates, key=lambda spec: fits[spec])
    if fits[best] <= 0.5:
        known = ", ".join(spec.name for spec in candidates)
        raise CheckpointError(
            f"{path.name} has the keys of the {contents.format} format but fits none of {known}: "
            "it is another network, which needs a Spec of its own"
        )
    best = with_head_of(contents, best)
    classes = class_count(path, contents, best)
    return with_known_name(best, classes, REFERENCES[contents.format]), classes


def with_known_name(found: Spec, classes: int, reference: Reference) -> Spec:
    """A file's Spec under the name of the known one that the reference builds so for this class count.

    Else, for a file of other origin, of the known one with the very widths; else under its own.
    """
    built = [for_classes(spec, classes, reference) for spec in SPECS.values()]
    same = (spec for spec in (*built, *SPECS.values()) if replace(spec, name=found.name) == found)
    return next(same, found)


def shape_agreement(contents: Contents, spec: Spec) -> float:
    """Share of a candidate's entry, exit and stem convolutions that the file has, in their shape."""
    shapes = identifying_shapes(spec)
    table = rename_table(spec, contents.format, shapes)
    tensors = contents.tensors
    found = [key for key in shapes if table[key] in tensors and tensors[table[key]].shape == shapes[key]]
    return len(found) / len(shapes)


@cache  # building the ten candidates of a format takes seconds
def identifying_shapes(spec: Spec) -> Mapping[str, torch.Size]:
    """Shapes of the convolutions that distinguish a network from others; none depends on the class count."""
    endings = ("stem.conv.weight", "entry.conv.weight", "exit.conv.weight", "boxes.0.0.conv.weight")
    state = skeleton(spec, 80).state_dict()
    return {own: value.shape for own, value in state.items() if own.endswith(endings)}


def with_head_of(contents: Contents, spec: Spec) -> Spec:
    """The same Spec with the class widths, and the depthwise form, that the file's tensors show."""
    depthwise = replace(spec, head=replace(spec.head, form="depthwise"))
    telling = rename_table(depthwise, contents.format, ["main.head.classes.0.0.0.conv.weight"])
    if set(telling.values()) & contents.tensors.keys():
        spec = depthwise
    width = last_class_shape(contents, spec, "main")[1]
    spec = replace(spec, head=replace(spec.head, class_width=width or spec.head.class_width))
    if spec.aux_head is not None:
        width = last_class_shape(contents, spec, "aux")[1]
        spec = replace(spec, aux_head=replace(spec.aux_head, class_width=width or spec.aux_head.class_width))
    return spec


def class_count(path: Path, contents: Contents, spec: Spec) -> int:
    """Classes of the main head, which must agree with the file's names."""
    classes = last_class_shape(contents, spec, "main")[0]
    if classes == 0:
        raise CheckpointError(
            f"{path.name} lacks the class branch of its head: it cannot detect; fetch it again"
        )
    if contents.names is not None and len(contents.names) != classes:
        raise CheckpointError(
            f"{path.name} names {len(contents.names)} classes but its head has {classes}: "
            "it mixes two networks"
        )
    return classes


def last_class_shape(contents: Contents, spec: Spec, branch: str) -> tuple[int, int]:
    """(classes, class width) of the last class convolution, from the first level that has it; else zeros."""
    keys = [f"{branch}.head.classes.{level}.2.weight" for level in range(3)]
    for foreign in rename_table(spec, contents.format, keys).values():
        weight = contents.tensors.get(foreign)
        if weight is not None and weight.ndim == 4:
            return weight.shape[0], weight.shape[1]
    return 0, 0


def require_complete(
    path: Path, contents: Contents, detector: Detector, table: Mapping[str, str]
) -> tuple[str, ...]:
    """Refuse missing and extra keys, wrong shapes and numbers; return the keys of the DFL constants."""
    tensors = contents.tensors
    constants = tuple(key for key in tensors if is_constant(key, contents.format))
    for key in constants:
        if not torch.equal(tensors[key].flatten().float(), torch.arange(16.0)):
            raise CheckpointError(
                f"{path.name}: {key} is not 0..15, so its boxes mean something else; refused"
            )
    faults = [
        f"{label} {len(keys)} key{'s'[: len(keys) > 1]} ({first_three(keys)})"
        for label, keys in (
            ("lacks", [foreign for foreign in table.values() if foreign not in tensors]),
            ("has also", sorted(tensors.keys() - set(table.values()) - set(constants))),
            ("has the wrong shape or type in", find_wrong_tensors(contents, detector, table)),
        )
        if keys
    ]
    if faults:
        raise CheckpointError(
            f"{path.name}, read as {contents.format} {detector.spec.name}, {'; '.join(faults)}: "
            "it is damaged or another network; fetch it again or check where it comes from"
        )
    broken = [
        key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise CheckpointError(
            f"{path.name} has NaN or infinity in {first_three(broken)}: its training diverged; refused"
        )
    return constants


def find_wrong_tensors(contents: Contents, detector: Detector, table: Mapping[str, str]) -> list[str]:
    """A few words for each tensor of the file that has another type or shape than the network's."""
    tensors, wanted = contents.tensors, detector.state_dict()
    wrong = [
        f"{table[own]} is {tensors[table[own]].dtype}, not {value.dtype}"
        for own, value in wanted.items()
        if value.is_floating_point() and table[own] in tensors and not tensors[table[own]].is_floating_point()
    ]
    shapes = {table[own]: value.shape for own, value in wanted.items()}
    return wrong + [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(shape)}"
        for key, shape in shapes.items()
        if key in tensors and tensors[key].shape != shape
    ]


def first_three(keys: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(keys[:3]) + (f", and {len(keys) - 3} more" if len(keys) > 3 else "")


def as_float32(tensor: Tensor) -> Tensor:
    """Floating-point tensors as float32 of their own; counters as they are."""
    return tensor.float().contiguous() if tensor.is_floating_point() else tensor

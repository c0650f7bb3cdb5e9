"""Begin a training with a checkpoint's weights: all that fits the network, each class by its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from yolov9bench.data.coco import fold_class_name
from yolov9bench.errors import CheckpointError
from yolov9bench.nn.detector import Detector
from yolov9bench.weights.load import Checkpoint, load
from yolov9bench.zoo.rows import ROWS
from yolov9bench.zoo.specs import Head, Spec

SHOWN_NAMES = 3
BACKBONES = ("backbone.", "main.reversible.")
PYRAMID = "main.pyramid."
CLASS_WEIGHTS = "main.head.classes.0.2.weight"
LEAST_OF_PYRAMID = 0.5  # share of its numbers; with less, the heads would stand on other features
BRANCH = re.compile(r"(main|aux)\.head\.(boxes|classes)\.\d")
BRANCH_LAYER = re.compile(r"main\.head\.\w+\.\d\.\d")
LAST_CLASS_LAYER = re.compile(r"(main|aux)\.head\.classes\.\d\.2\.(weight|bias)")

logger = logging.getLogger("yolov9bench")


def fit_class_width(spec: Spec, path: Path) -> Spec:
    """The Spec whose class branches are as wide as those of a file, where the file's are wider.

    The references narrow them with the class count (`for_classes`), so that a file for 80 classes would lose
    what it has learnt there. CheckpointError for a file that cannot be read or trained.
    """
    given = load(path, training=True).spec
    aux_head = spec.aux_head and _as_wide(spec.aux_head, given.aux_head)
    return replace(spec, head=_as_wide(spec.head, given.head), aux_head=aux_head)


def take_weights(detector: Detector, path: Path, names: Sequence[str]) -> None:
    """Fill a detector with all tensors of a checkpoint that fit; the others stay as they are, fresh.

    `names` are the classes to be trained, by label: each takes the weights of the file's class of its name,
    and begins fresh if there is none; a file without names gives them label by label, if it has as many. The
    auxiliary branch may be missing, and heads may be of another form. Says what is taken and what is not.
    CheckpointError, with the detector as it was, for another network: see `require_same_network`.
    """
    found = load(path, training=True)
    require_same_network(detector, found, path.name)
    labels = match_labels(found, names, path.name)
    given, state = found.detector.state_dict(), detector.state_dict()
    taken = choose_tensors(given, state, labels)
    detector.load_state_dict(state | taken)
    fresh = [key for key in state if key not in taken]
    unused = [key for key in given if key not in state]
    said = [f"{path.name} starts {len(taken)} of the {len(state)} tensors of {detector.spec.name}"]
    said += [f"fresh are {_shown_parts(fresh)}"] if fresh else []
    said += [f"left out are {_shown_parts(unused)}"] if unused else []
    has_fresh_branch = CLASS_WEIGHTS not in taken and any(label is not None for label in labels)
    remark = "" if has_fresh_branch else describe_classes(found.names, names, labels, path.name)
    logger.log(
        logging.WARNING if fresh or unused or remark else logging.INFO,
        "%s",
        "; ".join(said + ([remark] if remark else [])),
    )


def require_same_network(detector: Detector, found: Checkpoint, file: str) -> None:
    """CheckpointError unless the whole backbone fits, and at least half of the pyramid.

    A part of a backbone is worth little: what lies behind a fresh layer sees what it never saw. So a file of
    another size or depth is refused, and one with another head, or a neck changed in places, is not.
    """
    given, wanted = found.detector.state_dict(), detector.state_dict()
    faults = find_misfits(given, wanted)
    lost = [key for key in faults if key.startswith(BACKBONES)]
    pyramid = {key: value.numel() for key, value in wanted.items() if key.startswith(PYRAMID)}
    fitting = sum(count for key, count in pyramid.items() if key not in faults)
    if not lost and fitting >= LEAST_OF_PYRAMID * sum(pyramid.values()):
        return
    first, *others = lost or [key for key in faults if key in pyramid]
    rows = [row.id for row in ROWS.values() if row.spec.name == found.spec.name]
    raise CheckpointError(
        f"{file} holds another network ({found.spec.name}) than the {detector.spec.name} to be trained: "
        f"{first} {faults[first]} (and {len(others)} more tensors of its backbone or pyramid do not fit); "
        f"start from a checkpoint of the same network{f', or train the row {rows[0]}' if rows else ''}"
    )


def find_misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """What is wrong with a file's tensors, by key, in the order of the network."""
    faults = {}
    for key, tensor in wanted.items():
        if key not in given:
            faults[key] = "is missing in the file"
        elif given[key].shape != tensor.shape:
            faults[key] = f"is {tuple(given[key].shape)} in the file, {tuple(tensor.shape)} in the network"
    return faults | {key: "is in the file alone" for key in given if key not in wanted}


def choose_tensors(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Sequence[int | None]
) -> dict[str, Tensor]:
    """The tensors to take, by key; `labels`: the file's label of each class to be trained, None for none.

    Where a layer of a head's branch does not fit, those behind it begin fresh too. The last one of a class
    branch, a row a class, is taken row by row.
    """
    taken: dict[str, Tensor] = {}
    fresh_branches: set[str] = set()
    for key, tensor in wanted.items():
        branch, is_last = BRANCH.match(key), bool(LAST_CLASS_LAYER.match(key))
        fits = key in given and given[key].shape[is_last:] == tensor.shape[is_last:]
        if branch and not fits:
            fresh_branches.add(branch[0])
        if not fits or (branch and branch[0] in fresh_branches):
            continue
        if not is_last:
            taken[key] = given[key]
        elif any(label is not None for label in labels):
            rows = [tensor[own] if label is None else given[key][label] for own, label in enumerate(labels)]
            taken[key] = torch.stack(rows)
    return taken


def match_labels(found: Checkpoint, wanted: Sequence[str], file: str) -> list[int | None]:
    """For each class to be trained, the label of the file whose weights it takes; None where there is none.

    Names are compared without regard to case and outer blanks, as in evaluation; of several classes of one
    name that of the same label is taken, or the first. CheckpointError for labels that do not count from 0.
    """
    if found.names is None:
        same = found.detector.num_classes == len(wanted)
        return list(range(len(wanted))) if same else [None] * len(wanted)
    if sorted(found.names) != list(range(len(found.names))):
        raise CheckpointError(f"{file} has the labels {sorted(found.names)}: label its classes from 0 up")
    theirs = [fold_class_name(found.names[label]) for label in range(len(found.names))]
    labels: list[int | None] = []
    for own, name in enumerate(map(fold_class_name, wanted)):
        if theirs[own : own + 1] == [name]:
            labels.append(own)
        else:
            labels.append(theirs.index(name) if name in theirs else None)
    return labels


def describe_classes(
    given: Mapping[int, str] | None, wanted: Sequence[str], labels: Sequence[int | None], file: str
) -> str:
    """What becomes of the classes, for a line of the log; empty where file and data set have the same."""
    if given is None:
        how = "begin fresh" if None in labels else "are taken label by label"
        return f"{file} names no classes: its class weights {how}"
    lacking = [repr(name) for name, label in zip(wanted, labels, strict=True) if label is None]
    if lacking:
        more = f" and {len(lacking) - SHOWN_NAMES} more" if len(lacking) > SHOWN_NAMES else ""
        return (
            f"{len(wanted) - len(lacking)} of {len(wanted)} classes keep their weights by name; "
            f"{file} has no {', '.join(lacking[:SHOWN_NAMES])}{more}"
        )
    moved = [own for own, label in enumerate(labels) if label != own]
    if moved and len(given) == len(wanted):
        one = f"label {moved[0]} is {given[moved[0]]!r} there and {wanted[moved[0]]!r} in the data set"
        return f"{file} has the classes in another order ({one}): each keeps its own weights"
    if len(given) != len(wanted):
        return f"every class keeps its weights by name, of the {len(given)} there"
    return ""


def _as_wide(head: Head, given: Head | None) -> Head:
    """The head with the class width of another, if that is wider and of layers of the same kind."""
    if given is None or (head.form == "depthwise") != (given.form == "depthwise"):
        return head
    return replace(head, class_width=max(head.class_width, given.class_width))


def _shown_parts(keys: Sequence[str]) -> str:
    """The layers that tensors belong to, the first few by name, the auxiliary branch as one."""
    main = [key for key in keys if not key.startswith("aux.")]
    layers = list(dict.fromkeys(_layer_of(key) for key in main))
    shown = layers[:SHOWN_NAMES]
    if len(layers) > SHOWN_NAMES:
        shown.append(f"{len(layers) - SHOWN_NAMES} more layers")
    if len(main) < len(keys):
        shown.append(f"{len(keys) - len(main)} tensors of the auxiliary branch")
    return ", ".join(shown)


def _layer_of(key: str) -> str:
    """The layer of a head's branch that a tensor belongs to; elsewhere the module."""
    found = BRANCH_LAYER.match(key)
    return found[0] if found else key.rpartition(".")[0]

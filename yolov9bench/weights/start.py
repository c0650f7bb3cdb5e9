"""Begin a training with a checkpoint's weights: the same network, each class by its name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.nn.detector import Detector
from yolov9bench.weights.load import Checkpoint, load
from yolov9bench.zoo.specs import Spec

SHOWN_NAMES = 3
CLASS_BRANCHES = ("main.head.classes.", "aux.head.classes.")
LAST_CLASS_KEYS = tuple(
    f"{branch}{level}.2.{leaf}"
    for branch in CLASS_BRANCHES
    for level in range(3)
    for leaf in ("weight", "bias")
)

logger = logging.getLogger("yolov9bench")


def take_weights(detector: Detector, path: Path, names: Sequence[str]) -> None:
    """Fill a detector, auxiliary branch included, from a checkpoint of the same network and class count.

    `names` are the classes to be trained, by label. A file that has them in another order gives each class
    its own weights; one that has other names, or none, gives them label by label. A warning says which.
    CheckpointError, with the detector as it was, if a tensor or the class count does not fit.
    """
    found = load(path, training=True)
    require_fit(detector, found, path.name)
    labels = match_labels(found.names, names, path.name)
    state = found.detector.state_dict()
    detector.load_state_dict(state | {key: state[key][labels] for key in LAST_CLASS_KEYS if key in state})


def require_fit(detector: Detector, found: Checkpoint, file: str) -> None:
    """Refuse a checkpoint of another network, then one of another class count.

    The class branches, whose width depends on the class count, are compared only where the counts agree.
    """
    wanted, given = detector.num_classes, found.detector.num_classes
    faults = find_misfits(found.detector.state_dict(), detector.state_dict())
    if wanted != given:
        faults = {key: fault for key, fault in faults.items() if not key.startswith(CLASS_BRANCHES)}
    if faults:
        key, fault = next(iter(faults.items()))
        more = f" (and {len(faults) - 1} more tensors do not fit)" if len(faults) > 1 else ""
        raise CheckpointError(
            f"{file} holds another network than the {detector.spec.name} to be trained: "
            f"{describe_other_head(found.spec, detector.spec)}{key} {fault}{more}; "
            "start from a checkpoint of the same network"
        )
    if wanted != given:
        raise CheckpointError(
            f"{file} detects {given} {'class' if given == 1 else 'classes'} and the data set has {wanted}: "
            "start from a checkpoint with the data set's classes"
        )


def describe_other_head(given: Spec, wanted: Spec) -> str:
    """The beginning of a reason where two Specs have heads of different forms."""
    if given.head.form == wanted.head.form:
        return ""
    return f"its head is {given.head.form}, not {wanted.head.form}, so that "


def find_misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """What is wrong with a file's tensors, by key, in the order of the network."""
    faults = {}
    for key, tensor in wanted.items():
        if key not in given:
            faults[key] = "is missing in the file"
        elif given[key].shape != tensor.shape:
            faults[key] = f"is {tuple(given[key].shape)} in the file, {tuple(tensor.shape)} in the network"
    return faults | {key: "is in the file alone" for key in given if key not in wanted}


def match_labels(given: Mapping[int, str] | None, wanted: Sequence[str], file: str) -> list[int]:
    """For each label to be trained, the label of the file whose weights it takes; as many on both sides.

    Names are compared without regard to case and outer blanks, as in evaluation.
    """
    in_order = list(range(len(wanted)))
    if given is None:
        logger.warning("%s names no classes: its class weights are taken label by label", file)
        return in_order
    if sorted(given) != in_order:
        raise CheckpointError(f"{file} has the labels {sorted(given)}: label its classes from 0 up")
    theirs = [given[label].strip().casefold() for label in in_order]
    ours = [name.strip().casefold() for name in wanted]
    differing = [label for label in in_order if theirs[label] != ours[label]]
    if not differing:
        return in_order
    said = [f"{label} is {given[label]!r} there and {wanted[label]!r} in the data set" for label in differing]
    if sorted(theirs) == sorted(ours) and len(set(ours)) == len(ours):
        logger.warning(
            "%s has the classes in another order (label %s): each keeps its own weights", file, said[0]
        )
        return [theirs.index(name) for name in ours]
    logger.warning(
        "%s has other classes (%d of %d labels differ: %s): its class weights are taken label by label",
        file, len(said), len(ours), "; ".join(said[:SHOWN_NAMES]),
    )  # fmt: skip
    return in_order

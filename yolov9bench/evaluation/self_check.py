"""Does this detector behave as its protocol says? A look at a few images, before a long evaluation.

python -m yolov9bench evaluate --checkpoint yolov9-c-converted.pt --dataset coco --self-check
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import SelfCheckError
from yolov9bench.evaluation.plain_detections import (
    Array,
    Departure,
    Found,
    Place,
    count_common,
    decode_plainly,
    detect_plainly,
    place_image,
)
from yolov9bench.evaluation.self_check_data import find_channel_fault, find_class_fault, find_metric_fault
from yolov9bench.io.progress import counted
from yolov9bench.nn.detector import Outputs
from yolov9bench.nn.head import STRIDES
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import Predictions
from yolov9bench.zoo.protocols import Protocol, View

RunInference: TypeAlias = Callable[[Any, Batches, Sequence[int | None], str], Predictions]

logger = logging.getLogger("yolov9bench")

IMAGES = 4
AGREE = 0.98  # of detections; NMS in float32 decides a few pairs near its threshold by the last bit
SAME_OUTPUT = 1e-3  # of a map's largest value, between an image alone and in a batch


@dataclass(frozen=True)
class SelfCheck:
    """What a look at some images told: `faults`, a sentence by name, and why others could not be told."""

    images: int
    faults: dict[str, str] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)

    def require_good(self) -> None:
        """Log what could not be told; SelfCheckError that names every fault."""
        for name, reason in self.untold.items():
            logger.info("self-check: %s could not be told: %s", name, reason)
        if self.faults:
            said = "; ".join(f"{name}: {sentence}" for name, sentence in self.faults.items())
            raise SelfCheckError(
                f"on {counted(self.images, 'images')} the detector does not behave as its protocol says: "
                f"{said}: mend it, or go on regardless with --no-self-check (in a notebook self_check False)"
            )
        logger.info("self-check: %s as the protocol says", counted(self.images, "images"))


@dataclass(frozen=True, eq=False)
class Seen:
    """An image's detections, by category id, and its decoded boxes [A, 4] px and scores [A, C]."""

    detections: Found
    boxes: Array
    scores: Array
    place: Place


@dataclass
class Observed:
    """A detector that keeps what goes in and what comes out; it is called in the detector's place."""

    detector: nn.Module
    calls: list[tuple[Tensor, Outputs]] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.detector(images)
        self.calls.append((images, outputs))
        return outputs


def choose_images(dataset: CocoDataset) -> CocoDataset:
    """A few images of a data set: the first two with a crowd, and those with the most objects."""
    crowds = {entry["image_id"] for entry in dataset.annotations if entry["iscrowd"]}
    objects: dict[int, int] = {}
    for entry in dataset.annotations:
        objects[entry["image_id"]] = objects.get(entry["image_id"], 0) + 1
    crowded = [image for image in dataset.images if image.id in crowds][: IMAGES // 2]
    most = sorted(dataset.images, key=lambda image: (-objects.get(image.id, 0), image.id))
    chosen = list(dict.fromkeys([*crowded, *most]))[:IMAGES]
    return dataset.restricted(sorted(chosen, key=lambda image: image.id))


def require_behaviour(
    run: RunInference,
    detector: nn.Module,
    dataset: CocoDataset,
    categories: Sequence[int | None],
    batches: Batches,
    device: str,
) -> None:
    """Run a detector on a few images of a data set; SelfCheckError if it does not do as its protocol says.

    run: what the evaluation runs, `run_network.run_inference`; categories: the data set's category id of each
    label; batches: those of the evaluation, whose settings are taken. What a few images cannot tell is
    logged, as are views beside the plain one.
    """
    few, protocol = choose_images(dataset), replace(batches.protocol, views=(View(),))
    own = Batches(few, protocol, batches.batch_size, batches.skip_corrupt)
    observed = Observed(detector)
    predictions = run(observed, own, categories, device)
    check = check_behaviour(observed, own, predictions, categories)
    if protocol != batches.protocol:
        check.untold["merging of views"] = "the plain view alone was looked at"
    check.require_good()


def check_behaviour(
    observed: Observed, batches: Batches, predictions: Predictions, categories: Sequence[int | None]
) -> SelfCheck:
    """Hold what ran on a few images against plain arithmetic, the pictures, and the annotation file.

    observed: the detector after it ran on `batches`, in one view; predictions: what came of it.
    """
    dataset, protocol = batches.dataset, batches.protocol
    check = SelfCheck(len(dataset.images) - len(batches.skipped))
    calls = [(*call, images) for call, images in zip(observed.calls, _images_of(batches), strict=True)]
    seen = [each for call in calls for each in _see(*call, batches, predictions)]
    _note(check, "suppression and boxes", _find_detection_fault(seen, categories, protocol))
    _note(check, "BatchNorm", _find_batch_fault(observed))
    _note(check, "channels", find_channel_fault(dataset, [(inputs, images) for inputs, _, images in calls]))
    _note(check, "classes", find_class_fault(dataset, predictions))
    _note(check, "crowds", find_metric_fault(dataset, predictions))
    return check


def _images_of(batches: Batches) -> list[list[CocoImage]]:
    """The images of each call of the detector: those of each batch that could be decoded."""
    groups = [
        [image for image in images if image.file_name not in batches.skipped] for images, _ in batches.chunks
    ]
    return [group for group in groups if group]


def _see(
    inputs: Tensor, outputs: Outputs, images: Sequence[CocoImage], batches: Batches, predictions: Predictions
) -> Iterator[Seen]:
    """Each image of a call; one that is not as large as annotated is left out."""
    given, size = (int(inputs.shape[2]), int(inputs.shape[3])), batches.protocol.image_size
    maps = [[part.float().cpu().numpy() for part in level] for level in outputs.main]
    for index, image in enumerate(images):
        if image.file_name in batches.other_size:
            continue
        own = predictions.of_images([image.id])
        boxes, scores = decode_plainly([(box[index], label[index]) for box, label in maps], STRIDES)
        place = place_image((image.height, image.width), given, batches.protocol, size)
        yield Seen((own.boxes_xyxy, own.scores, own.category_ids), boxes, scores, place)


def _note(check: SelfCheck, subject: str, answer: tuple[str, str] | str | None) -> None:
    """A fault as (name, sentence), or why nothing could be told; None for nothing wrong."""
    if isinstance(answer, str):
        check.untold[subject] = answer
    elif answer is not None:
        check.faults[answer[0]] = answer[1]


def _find_detection_fault(
    seen: Sequence[Seen], categories: Sequence[int | None], protocol: Protocol
) -> tuple[str, str] | str | None:
    """Which known departure gives the detections that ran, where the protocol itself does not."""
    ids = np.array([category or 0 for category in categories], np.int64)
    known = np.array([category is not None for category in categories])

    def agreement(departure: Departure) -> float:
        common = whole = 0
        for each in seen:
            plain = detect_plainly(each.boxes, each.scores, each.place, protocol, departure)
            labels = np.clip(plain[2], 0, len(ids) - 1)
            plain = (plain[0][known[labels]], plain[1][known[labels]], ids[labels][known[labels]])
            common += 2 * count_common(each.detections, plain)
            whole += len(each.detections[1]) + len(plain[1])
        return common / whole if whole else -1.0

    correct = agreement(Departure("none"))
    if correct < 0:
        return "nothing was detected on these images"
    if correct >= AGREE:
        return None
    rated = {departure: agreement(departure) for departure in known_departures(protocol)}
    likely = max(rated, key=lambda departure: rated[departure])
    if rated[likely] > correct:
        share = f"{rated[likely]:.0%} of the detections are what that gives, {correct:.0%} what is right"
        return likely.name, share
    return "detections", f"only {correct:.0%} are what the protocol gives of the network's own maps"


def known_departures(protocol: Protocol) -> tuple[Departure, ...]:
    """The faults that public code was seen to have, by name."""
    shift = 7680.0 if protocol.class_shift == "extent" else protocol.class_shift
    return (
        Departure("class-agnostic NMS", shared_classes=True),
        Departure("float16 NMS", half_shift=shift),
        Departure("float16 NMS", half_extent=True),
        Departure("letterboxed coordinates", mapped=False),
        Departure("letterboxed coordinates", mapped=False, clipped=False),
        Departure("shifted labels", label_shift=1),
        Departure("shifted labels", label_shift=-1),
    )


@torch.inference_mode()
def _find_batch_fault(observed: Observed) -> tuple[str, str] | None:
    """Whether the maps of an image depend on what else is in its batch."""
    images, outputs = observed.calls[0]
    beside = torch.cat([images[:1], images[:1].flip(3), torch.rand_like(images[:1])])
    again: Outputs = observed.detector(beside)
    for before, after in zip(outputs.main, again.main, strict=True):
        for one, other in zip(before, after, strict=True):
            if float((one[0] - other[0]).abs().max()) > SAME_OUTPUT * max(float(one[0].abs().max()), 1.0):
                return "BatchNorm in train mode", "an image's outputs depend on the others in its batch"
    return None

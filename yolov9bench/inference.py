"""A detector on images of any kind: files, folders and arrays to boxes, scores and names.

yolov9bench predict --checkpoint yolov9-m street.jpg photos/ --out predictions
yolov9bench.predict("yolov9-m", "street.jpg").plot()
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from yolov9bench.config import PredictConfig
from yolov9bench.config.values import as_plain
from yolov9bench.data.coco import CocoImage
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.evaluation.evaluate import resolve_device
from yolov9bench.evaluation.run_network import full_float32
from yolov9bench.evaluation.settings import choose_protocol
from yolov9bench.io.files import atomic_path, write_text
from yolov9bench.io.names import portable_name
from yolov9bench.io.progress import counted, track
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.plots.predicted_image import PredictedImage
from yolov9bench.predict.batches import Batch, Prepared, Shape, group_images, make_input, stack_inputs
from yolov9bench.predict.detect import detect_batch
from yolov9bench.predict.postprocess import Detections
from yolov9bench.weights import Checkpoint
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.protocols import Protocol

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SCORE_TO_LOOK_AT = 0.25  # what is drawn; an AP is computed from the protocol's .001 on
LEAVE_OUT = "fetch it again, or leave it out"


@dataclass(frozen=True)
class Input:
    """One image to look at: its name, where it has one its path, and its pixels once they are read."""

    name: str
    path: Path | None = None
    pixels: Pixels | None = None

    def read(self) -> Pixels:
        """Pixels [H, W, 3], BGR; DatasetError for a file that cannot be decoded."""
        return read_image(self.path or Path(), LEAVE_OUT) if self.pixels is None else self.pixels


@dataclass(frozen=True)
class PreparedInput:
    """An input with its size, its padded shapes (height, width) and what is padded to them, by image size."""

    input: Input
    image: CocoImage
    shapes: dict[int, Shape]
    padded: Prepared


def predict(
    checkpoint: Checkpoint | str | Path,
    images: Any,
    score_threshold: float = SCORE_TO_LOOK_AT,
    protocol: str = "auto",
    image_size: int | None = None,
    batch_size: int = 16,
    device: str = "auto",
    tta: bool = False,
) -> PredictedImage | list[PredictedImage]:
    """What a detector finds in images: one `PredictedImage` for one image, a list of them for several.

    checkpoint: a loaded one, a file, or the id of a row, which is fetched
    images: a file, a folder (its images by name), an array uint8 [H, W, 3] in RGB or [H, W] in grey, an image
        of PIL, or a list of these
    score_threshold: the least score, 0..1; for a COCO AP take the protocol's own .001, or `evaluate`
    protocol: how images are resized and boxes suppressed; "auto" is that of the checkpoint's format
    image_size: pixels of the long side; the protocol's if None
    batch_size: images at a time, of one input shape; changes speed and memory alone
    device: a torch device, or "auto"; tta: merge mmyolo's six views

    An image is never padded for the sake of another one, so that nothing depends on the company it is in.
    SettingsError, DatasetError and CheckpointError name the offender and the remedy.
    """
    asked = PredictConfig(
        images=(Path(),),  # looked at below, since they may be arrays, as the checkpoint may be loaded
        checkpoint="loaded" if isinstance(checkpoint, Checkpoint) else as_plain(checkpoint),
        score_threshold=score_threshold,
        protocol=protocol,
        image_size=image_size,
        batch_size=batch_size,
        device=str(device),
        tta=tta,
    )
    inputs, chosen_device = collect_inputs(images), resolve_device(asked.device)
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_any(checkpoint)
    chosen = choose_protocol(loaded, asked.protocol, asked.image_size, asked.tta)
    chosen = replace(chosen, score_threshold=asked.score_threshold)
    found = list(detect_inputs(loaded, inputs, chosen, asked.batch_size, chosen_device))
    return found[0] if is_single(images) else found


def write_predictions(images: Sequence[Path], checkpoint: str, out: Path, **given: Any) -> Iterator[str]:
    """Predict, and write every image with its boxes and one COCO result file into a folder; a line for each.

    An image's id is its number, from 1, in the order of the lines; each entry of the result file also has its
    file's name. Other keywords are those of `predict`.
    """
    found = predict(checkpoint, list(images), **given)
    taken: set[str] = set()
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(found if isinstance(found, list) else [found], start=1):
        name = portable_name(Path(each.name).stem, ".png")
        while name.lower() in taken:  # in any case: not every system tells a.png from A.png
            name = f"{Path(name).stem}-{number}.png"
        taken.add(name.lower())
        with atomic_path(out / name) as fresh:
            each.plot().savefig(fresh)
        rows += [row | {"file_name": each.name} for row in each.to_coco(number)]
        yield f"{number}: {each}"
    write_text(out / "detections.json", json.dumps(rows) + "\n")
    yield f"{counted(len(rows), 'detections')} in {out / 'detections.json'}, the images beside it"


def is_single(images: Any) -> bool:
    """Whether one image is meant, not a folder or a list."""
    return not isinstance(images, list | tuple) and not (
        isinstance(images, str | Path) and Path(images).is_dir()
    )


def collect_inputs(images: Any) -> list[Input]:
    """Every image that is meant, none read yet but arrays; DatasetError or SettingsError for what is none."""
    if isinstance(images, list | tuple):
        inputs = [one for each in images for one in collect_inputs(each)]
        unnamed = (Input(f"image {place}", None, one.pixels) for place, one in enumerate(inputs))
        return [one if one.path else other for one, other in zip(inputs, unnamed, strict=True)]
    if isinstance(images, str | Path):
        return _collect_files(Path(images))
    return [Input("image", None, _as_pixels(images))]


def detect_inputs(
    checkpoint: Checkpoint, inputs: Sequence[Input], protocol: Protocol, batch_size: int, device: str
) -> Iterator[PredictedImage]:
    """The PredictedImage of each input, in their order; images of one input shape go through together."""
    detector = checkpoint.detector.deployed().to(device)
    names = checkpoint.names or {label: f"class {label}" for label in range(detector.num_classes)}
    with full_float32():
        for _, group in groupby(_prepare(inputs, protocol), key=lambda each: each.shapes):
            for chunk in _chunks(group, batch_size):
                padded = {
                    size: stack_inputs([each.padded[size] for each in chunk]) for size in chunk[0].padded
                }
                batch = Batch(tuple(each.image for each in chunk), padded)
                detections = detect_batch(detector, batch, protocol, device)
                for prepared, each in zip(chunk, detections, strict=True):
                    yield _describe(prepared, each, names)


def _prepare(inputs: Sequence[Input], protocol: Protocol) -> Iterator[PreparedInput]:
    """Each input, read and padded to the shapes that its own ratio asks for."""
    for number, one in enumerate(track(inputs, len(inputs), "detecting", "images")):
        pixels = one.read()
        image = CocoImage(number, one.name, width=pixels.shape[1], height=pixels.shape[0])
        ((_, shapes),) = group_images([image], protocol)
        padded = {size: make_input(pixels, size, shape, protocol) for size, shape in shapes.items()}
        yield PreparedInput(one, image, shapes, padded)


def _chunks(group: Iterator[PreparedInput], most: int) -> Iterator[list[PreparedInput]]:
    while chunk := list(islice(group, most)):
        yield chunk


def _describe(prepared: PreparedInput, found: Detections, names: Mapping[int, str]) -> PredictedImage:
    boxes, scores, labels = (part.cpu().numpy() for part in found)
    one, size = prepared.input, (prepared.image.height, prepared.image.width)
    return PredictedImage(one.name, one.path, one.pixels, size, boxes, scores, labels, names)


def _collect_files(path: Path) -> list[Input]:
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DatasetError(f"{path} has no image ({', '.join(IMAGE_SUFFIXES)}): choose another folder")
        return [Input(file.name, file) for file in files]
    if not path.is_file():
        raise DatasetError(f"image {path} does not exist: check the path")
    return [Input(path.name, path)]


def _as_pixels(image: Any) -> Pixels:
    """An array or PIL image as uint8 [H, W, 3], BGR; SettingsError for another type or shape."""
    if hasattr(image, "convert"):  # an image of PIL, of any mode
        image = image.convert("RGB")
    elif not hasattr(image, "__array__"):
        raise SettingsError(
            f"images holds a {type(image).__name__}: give files, folders, or arrays of uint8 [H, W, 3]"
        )
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise SettingsError(
            f"images holds an array of {pixels.dtype} {list(pixels.shape)}: give uint8 [H, W, 3] in RGB"
        )
    return np.ascontiguousarray(pixels[:, :, ::-1])

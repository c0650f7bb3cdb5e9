"""All that is wrong or unusual in a data set, counted: what is refused, changed, or teaches nothing.

python -m yolov9bench check-data path/to/set --split val2017
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yolov9bench.data.annotation_values import find_faults
from yolov9bench.data.annotations import fill_in, load_json
from yolov9bench.data.coco import CocoDataset, CocoImage, describe_missing, read_lists
from yolov9bench.data.layouts import find_annotations
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import DatasetError
from yolov9bench.io.progress import track
from yolov9bench.ops.images import is_dim, read_image

Level = Literal["refused", "warning", "note"]

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Finding:
    """Something about a data set, how often, and a first example; "refused" keeps it from being used."""

    level: Level
    what: str
    count: int = 1
    example: str = ""

    def __str__(self) -> str:
        times = f" ({self.count:,} times)" if self.count > 1 else ""
        return f"{self.level:8} {self.what}{times}" + (f", first: {self.example}" if self.example else "")


def check_data(
    root: Path, split: str = "val2017", annotations: Path | None = None, images_in: Path | None = None
) -> list[Finding]:
    """Every finding on one split, as reading, evaluation and training would treat it; images are decoded.

    annotations, images_in: as for `read_coco`. Nothing is raised for what is wrong with the set: it is among
    the findings.
    """
    try:
        file = annotations or find_annotations(root, split)[0]
        content = load_json(file)
    except DatasetError as error:
        return [Finding("refused", str(error))]
    fill_in(content)
    faults = list(find_faults(file, content))
    if faults:
        counts = Counter(fault.what for fault in faults)
        first = {fault.what: fault.sentence for fault in reversed(faults)}
        return [Finding("refused", what, count, first[what]) for what, count in counts.items()]
    with collected_lines() as said:
        dataset, missing = read_lists(root, split, None, annotations, images_in)
    findings = [Finding("warning", line.partition(": ")[2]) for line in said]
    if missing:
        findings.append(Finding("refused", describe_missing(dataset, missing)))
    lacking = set(missing)
    there = dataset.restricted([image for image in dataset.images if image.file_name not in lacking])
    return [*findings, *find_in_lists(dataset), *find_in_images(there), *find_in_objects(dataset)]


def find_in_lists(dataset: CocoDataset) -> Iterator[Finding]:
    """What the lists of a readable set tell: how much there is, and what is there twice or empty."""
    counts = f"{len(dataset.images):,} images, {len(dataset.annotations):,} annotations"
    yield Finding("note", f"{counts}, {len(dataset.categories)} classes in {dataset.folder}")
    files = Counter(map(dataset.image_path, dataset.images))
    repeated = [path.name for path, count in files.items() if count > 1]
    if repeated:
        yield Finding("warning", "several images have one file", len(repeated), repeated[0])
    yield from find_repeated_boxes(dataset)
    if not dataset.has_objects:
        yield Finding("refused", "no object is annotated, crowds apart, so that there is nothing to score")
    used = {entry["category_id"] for entry in dataset.annotations}
    unused = [name for number, name in dataset.categories if number not in used]
    if unused:
        yield Finding("note", "a class has no annotation", len(unused), unused[0])
    annotated = {entry["image_id"] for entry in dataset.annotations}
    empty = [image.file_name for image in dataset.images if image.id not in annotated]
    if empty:
        yield Finding("note", "an image has no annotation", len(empty), empty[0])


def find_repeated_boxes(dataset: CocoDataset) -> Iterator[Finding]:
    """Annotations that are another one's copy, which a detector finds once and misses once."""
    seen: set[tuple[object, ...]] = set()
    copies = []
    for entry in dataset.annotations:
        key = (entry["image_id"], entry["category_id"], entry["iscrowd"], *entry["bbox"])
        if key in seen:
            copies.append(f"annotation {entry['id']}")
        seen.add(key)
    if copies:
        yield Finding("warning", "an object is annotated twice with one box", len(copies), copies[0])


def find_in_images(dataset: CocoDataset) -> Iterator[Finding]:
    """What decoding every image tells."""
    broken: list[str] = []
    other_size: list[str] = []
    dim: list[str] = []
    images: Iterable[CocoImage] = track(dataset.images, len(dataset.images), "decoding", "images")
    for image in images:
        path = dataset.image_path(image)
        try:
            pixels = read_image(path)
        except DatasetError as error:
            broken.append(str(error))
            continue
        height, width = pixels.shape[:2]
        if (width, height) != (image.width, image.height):
            annotated = f"annotated as {image.width} x {image.height}"
            other_size.append(f"{image.file_name} is {width} x {height}, {annotated}")
        if is_dim(path, pixels):
            dim.append(image.file_name)
    kinds: tuple[tuple[Level, str, list[str]], ...] = (
        ("refused", "an image cannot be decoded", broken),
        ("warning", "an image has another size than annotated; training refuses it", other_size),
        ("warning", "16 bits a pixel with 12 in use, so that an image is almost black", dim),
    )
    for level, what, examples in kinds:
        if examples:
            yield Finding(level, what, len(examples), examples[0])


def find_in_objects(dataset: CocoDataset) -> Iterator[Finding]:
    """What training would learn on, and why not on the rest."""
    with collected_lines() as said:
        try:
            training_set(dataset, mask_refine=False)
        except DatasetError as error:
            yield Finding("warning", f"training refuses this: {error}")
    yield from (Finding("note", line) for line in said)


@contextmanager
def collected_lines() -> Iterator[list[str]]:
    """The lines that the log would get meanwhile, in a list that is filled when the block ends."""
    lines: list[str] = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[0]
        logger.setLevel(before[1])
        lines += stream.getvalue().splitlines()

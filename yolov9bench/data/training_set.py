"""What is trained on: the images of a COCO-format data set and the objects to learn, packed for workers."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.decoded import keep_in_memory, keep_on_disk, key_of
from yolov9bench.data.loading import Loading
from yolov9bench.data.packed import PackedObjects, PackedPaths, Ragged, bounds_of, pack_objects, pack_paths
from yolov9bench.data.polygons import Objects, Reason, objects_of
from yolov9bench.data.transforms import Sample, blank
from yolov9bench.errors import DatasetError
from yolov9bench.ops.images import Pixels, is_deep_png, is_dim, read_image

LOOKED_AT = 8  # images, to tell whether all are almost black

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The images of a data set and the objects to learn on them, number by number."""

    paths: PackedPaths
    sizes: Tensor  # int64 [n, 2]: height, width, as annotated
    objects: PackedObjects
    decoded: Ragged | None = None  # of each image its pixels one after another; None: they are on disk alone

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def decoded_bytes(self) -> int:
        """What all images take when they are decoded."""
        return 3 * int(self.sizes.prod(dim=1).sum())

    def outline(self, index: int) -> Sample:
        """The objects of one image, as large as it is annotated, with blank pixels."""
        objects = self.objects[index]
        height, width = self.sizes.numpy()[index].tolist()
        return Sample(blank((height, width)), objects.boxes, objects.labels, objects.polygons)

    def load(self, index: int) -> Sample:
        """One image as it is on disk; DatasetError for one that cannot be decoded, or of another size."""
        return replace(self.outline(index), pixels=self.pixels(index))

    def pixels(self, index: int) -> Pixels:
        """The image alone, which is read-only where decoded images are kept; DatasetErrors as `load`."""
        annotated_height, annotated_width = self.sizes.numpy()[index].tolist()
        if self.decoded is not None:
            return self.decoded[index].reshape(annotated_height, annotated_width, 3)
        path = self.paths[index]
        pixels = read_image(path)
        height, width = pixels.shape[:2]
        if (height, width) != (annotated_height, annotated_width):
            raise DatasetError(
                f"image {path.name} is {width} x {height}, but annotated as {annotated_width} x "
                f"{annotated_height}, so its boxes are wrong: restore the image or correct the annotations"
            )
        return pixels


def pack_training_set(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], objects: Sequence[Objects]
) -> TrainingSet:
    """Images by path, annotated height and width, and objects, number by number."""
    return TrainingSet(
        pack_paths(paths), torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2), pack_objects(objects)
    )


def training_set(dataset: CocoDataset, mask_refine: bool) -> TrainingSet:
    """What is learned of a data set; labels are 0, 1, ... by ascending category id.

    With mask_refine boxes are taken from polygons where there are some.

    Images without objects stay: they teach what is none. Says how many objects are learned on, and why
    others are left out; DatasetError if all are.
    """
    label_of = {number: label for label, (number, _) in enumerate(dataset.categories)}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in dataset.annotations:
        annotations[entry["image_id"]].append(entry)
    objects = tuple(
        objects_of(annotations[image.id], label_of, image.width, image.height, mask_refine)
        for image in dataset.images
    )
    _require_objects(dataset, objects)
    _warn_of_dim_images([dataset.image_path(image) for image in dataset.images])
    return pack_training_set(
        paths=[dataset.image_path(image) for image in dataset.images],
        sizes=[(image.height, image.width) for image in dataset.images],
        objects=objects,
    )


def _require_objects(dataset: CocoDataset, objects: Sequence[Objects]) -> None:
    learned = sum(len(each.labels) for each in objects)
    counts = Counter(chain.from_iterable(each.left_out for each in objects))
    reasons = ", ".join(f"{counts[reason]} {reason}" for reason in get_args(Reason) if counts[reason])
    said = f"learning on {learned} of {len(dataset.annotations)} objects" + (
        f" ({reasons})" if reasons else ""
    )
    if not learned:
        raise DatasetError(
            f"the split {dataset.split} of {dataset.root} teaches nothing, {said}: "
            "train on images with annotated objects that are not crowds and lie inside their images"
        )
    logger.info("%s", said)


def _warn_of_dim_images(paths: Sequence[Path]) -> None:
    """Say that PNGs are almost black, if all of those that are looked at hold 12 bits in 16."""
    files = [path for path in paths if path.suffix.lower() == ".png"]
    chosen = files[:: max(len(files) // LOOKED_AT, 1)][:LOOKED_AT]
    if chosen and all(_is_dim_file(path) for path in chosen):
        logger.warning(
            "all %d of %d PNGs that were looked at have 16 bits a pixel with 12 in use (first %s), so they "
            "are almost black: scale them",
            len(chosen),
            len(files),
            chosen[0].name,
        )


def _is_dim_file(path: Path) -> bool:
    try:
        return is_deep_png(path) and is_dim(path, read_image(path))
    except DatasetError:  # told by name when training comes to it
        return False


def keep_decoded(dataset: TrainingSet, loading: Loading) -> TrainingSet:
    """The same set with its images decoded, where `loading` keeps them; errors as `decoded`'s."""
    if loading.cache == "none":
        return dataset
    bounds = bounds_of((3 * dataset.sizes.prod(dim=1)).tolist())
    if loading.cache == "ram":
        kept = keep_in_memory(dataset.pixels, bounds, shared=loading.workers > 0)
    else:
        assert loading.cache_folder is not None
        sizes = [(height, width) for height, width in dataset.sizes.tolist()]
        key = key_of(dataset.paths, sizes)
        kept = keep_on_disk(dataset.pixels, bounds, key, loading.cache_folder)
    return replace(dataset, decoded=kept)

"""Training batches: images of a COCO-format data set, augmented by a Recipe, the same on every run."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
from numpy.random import Generator, SeedSequence, default_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.mosaic import (
    apply_copy_paste,
    apply_mixup,
    apply_mosaic,
    draw_copy_paste,
    draw_mixup,
    draw_mosaic,
    tile,
)
from yolov9bench.data.polygons import Objects, Reason, objects_of
from yolov9bench.data.transforms import (
    Sample,
    apply_affine,
    apply_flip,
    apply_hsv,
    apply_rare_filters,
    draw_affine,
    draw_flip,
    draw_hsv,
    draw_rare_filters,
    letterboxed,
)
from yolov9bench.errors import DatasetError
from yolov9bench.ops.distributed import ALONE, Ranks
from yolov9bench.ops.images import read_image
from yolov9bench.zoo.recipe import AugmentationSettings, Recipe

Batch = tuple[Tensor, Tensor]

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The images of a data set and the objects to learn on them, number by number."""

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]  # height, width, as annotated
    objects: tuple[Objects, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Sample:
        """One image as it is on disk; DatasetError for one that cannot be decoded, or of another size."""
        objects, path = self.objects[index], self.paths[index]
        sample = Sample(read_image(path), objects.boxes, objects.labels, objects.polygons)
        if sample.shape != self.sizes[index]:
            (height, width), (annotated_height, annotated_width) = sample.shape, self.sizes[index]
            raise DatasetError(
                f"image {path.name} is {width} x {height}, but annotated as {annotated_width} x "
                f"{annotated_height}, so its boxes are wrong: restore the image or correct the annotations"
            )
        return sample


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
    return TrainingSet(
        paths=tuple(dataset.image_path(image) for image in dataset.images),
        sizes=tuple((image.height, image.width) for image in dataset.images),
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


def training_sample(dataset: TrainingSet, index: int, recipe: Recipe, seed: int, epoch: int) -> Sample:
    """Image `index` as it is seen in an epoch, counted from 0; chance depends on these numbers alone."""
    settings = recipe.augmentation
    generator = default_rng(SeedSequence(seed, spawn_key=(epoch, index)))
    if epoch >= recipe.run.epochs - settings.close_mosaic or generator.random() >= settings.mosaic_prob:
        sample = letterboxed(
            dataset.load(index),
            settings.image_size,
            settings.closing_pad_bgr,
            settings.closing_shrinking,
        )
        sample = apply_affine(sample, draw_affine(generator, sample.shape, settings, closing=True))
    else:
        sample = _mosaic_sample(dataset, index, settings, generator)
        mixup = draw_mixup(generator, len(dataset), settings)
        if mixup is not None:
            other = _mosaic_sample(dataset, mixup.other, settings, generator)
            sample = apply_mixup(sample, other, mixup)
    sample = apply_rare_filters(sample, draw_rare_filters(generator, settings))
    sample = apply_hsv(sample, draw_hsv(generator, settings))
    return apply_flip(sample, draw_flip(generator, settings))


def _mosaic_sample(
    dataset: TrainingSet, index: int, settings: AugmentationSettings, generator: Generator
) -> Sample:
    mosaic = draw_mosaic(generator, len(dataset), settings)
    tiles = [tile(dataset.load(number), settings.image_size) for number in (index, *mosaic.others)]
    sample = apply_mosaic(tiles, mosaic)
    sample = apply_copy_paste(sample, draw_copy_paste(generator, sample, settings))
    return apply_affine(sample, draw_affine(generator, sample.shape, settings, closing=False))


class TrainingBatches:
    """The batches of one epoch at a time: images uint8 [B, 3, S, S] in RGB, and targets float32 [n, 6].

    A target is (image in the batch, label, x1, y1, x2, y2) in pixels. Every image comes once an epoch, in
    an order that depends on (seed, epoch); the last batch may be smaller; `start` leaves out so many batches
    at the beginning, to resume. Neither `workers` nor `start` changes any batch. With `workers` that many
    processes prepare batches ahead; they are spawned once and stay for later epochs. An image that cannot be
    decoded raises DatasetError.

    Of several ranks each has its own batches of `batch_size`; together they are those of one process with
    batches as much larger. Where the images cannot be divided, the first of the order come twice.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        recipe: Recipe,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        workers: int = 0,
        start: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        samples = _Samples(training_set(dataset, recipe.augmentation.mask_refine), recipe, seed)
        self._order = _Order(len(dataset.images), batch_size, seed, epoch, start, ranks)
        self._loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_one_thread,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # or each epoch would take a number from torch's global one
        )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Which epoch the next iteration goes through, from which batch on."""
        self._order.epoch, self._order.start = epoch, start

    def of_epoch(self, epoch: int, start: int = 0) -> TrainingBatches:
        """These batches, set to an epoch."""
        self.set_epoch(epoch, start)
        return self

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, DatasetError):
                # Raised itself, it and this frame would hold one another, and the workers with them.
                raise DatasetError(str(batch))
            yield batch


Key = tuple[int, int]  # epoch and image: sent with every request, so that workers keep no state


class _Order(Sampler[list[Key]]):
    """Which images make up the batches of the current epoch."""

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int, start: int, ranks: Ranks) -> None:
        self.count, self.batch_size, self.seed, self.ranks = count, batch_size, seed, ranks
        self.epoch, self.start = epoch, start

    @property
    def share(self) -> int:
        """Images of this rank in an epoch, as many as of every other."""
        return math.ceil(self.count / self.ranks.world_size)

    def __len__(self) -> int:
        return max(math.ceil(self.share / self.batch_size) - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = default_rng(SeedSequence(self.seed, spawn_key=(self.epoch,)))
        order = np.resize(generator.permutation(self.count), self.share * self.ranks.world_size)
        keys = [(self.epoch, index) for index in order[self.ranks.rank :: self.ranks.world_size].tolist()]
        for first in range(self.start * self.batch_size, self.share, self.batch_size):
            yield keys[first : first + self.batch_size]


class _Samples(Dataset[Sample | DatasetError]):
    """What a worker process carries."""

    def __init__(self, dataset: TrainingSet, recipe: Recipe, seed: int) -> None:
        self.dataset, self.recipe, self.seed = dataset, recipe, seed

    def __getitem__(self, key: Key) -> Sample | DatasetError:
        epoch, index = key
        try:
            return training_sample(self.dataset, index, self.recipe, self.seed, epoch)
        except DatasetError as error:  # raised in a worker it would arrive with a traceback for a message
            return error


def _collate(samples: Sequence[Sample | DatasetError]) -> Batch | DatasetError:
    images, targets = [], []
    for number, sample in enumerate(samples):
        if isinstance(sample, DatasetError):
            return sample
        images.append(np.ascontiguousarray(sample.pixels.transpose(2, 0, 1)[::-1]))
        image = np.full(len(sample.labels), number)
        targets.append(np.column_stack([image, sample.labels, sample.boxes]).astype(np.float32))
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.concatenate(targets))


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already

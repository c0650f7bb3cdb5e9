"""Training batches: images of a COCO-format data set, augmented by a Recipe, the same on every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.loading import PLAIN, Loading
from yolov9bench.data.order import Key, Order
from yolov9bench.data.packed import bytes_of, empty_bytes, shared
from yolov9bench.data.tile_pool import TilePool, pool_bytes
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import TrainingSet, keep_decoded, training_set
from yolov9bench.data.transforms import Sample
from yolov9bench.data.workers import (
    PREFETCHED,
    ByValue,
    as_tensors,
    choose_pipes,
    explain_lost,
    failure_of_sample,
)
from yolov9bench.errors import BenchError, SettingsError, drop_frames
from yolov9bench.ops.ranks import ALONE, Ranks
from yolov9bench.ops.stops import interrupts_held
from yolov9bench.zoo.recipe import Recipe

Batch = tuple[Tensor, Tensor]


class TrainingBatches:
    """The batches of one epoch at a time: images uint8 [B, 3, S, S] in RGB, and targets float32 [n, 6].

    A target is (image in the batch, label, x1, y1, x2, y2) in pixels. Every image comes once an epoch, in
    an order that depends on (seed, epoch); the last batch may be smaller; `start` leaves out so many batches
    at the beginning, to resume. Neither `loading` nor `start` changes any batch. Workers are spawned once and
    stay for later epochs. What cannot be prepared raises a BenchError: an image that cannot be decoded a
    DatasetError, a lost worker a SettingsError, after which all others are gone too.

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
        start: int = 0,
        ranks: Ranks = ALONE,
        loading: Loading = PLAIN,
    ) -> None:
        images, self._loading = training_set(dataset, recipe.augmentation.mask_refine), loading
        self._by_value = False  # whether workers get and give copies through pipes
        if loading.workers:
            batch = 3 * recipe.augmentation.image_size**2 * batch_size
            kept = images.decoded_bytes if loading.cache == "ram" else 0
            needed = bytes_of(images) + kept + batch * (PREFETCHED * loading.workers + 1)
            self._by_value = choose_pipes(needed, loading)
            images = images if self._by_value else shared(images)
        pool = TilePool(pool_bytes(images.sizes, recipe.augmentation.image_size, loading))
        self._samples = _Samples(keep_decoded(images, loading), recipe, seed, pool)
        self._order = Order(len(dataset.images), batch_size, seed, epoch, start, ranks)
        self._loader = self._make_loader()

    def _make_loader(self) -> DataLoader[Any]:
        workers = self._loading.workers
        samples: Any = ByValue(self._samples) if self._by_value else self._samples
        return DataLoader(
            samples,
            batch_sampler=self._order,
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            pin_memory=self._loading.pin_memory,
            collate_fn=_collate_by_value if self._by_value else _collate,
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
        batches: Iterator[Batch | BenchError] | None = None
        while True:
            lost = None
            try:
                with interrupts_held():  # the workers that it starts end with this process
                    batches = batches or iter(self._loader)
                batch = next(batches, None)
            except (RuntimeError, MemoryError, OSError, EOFError) as error:
                lost = explain_lost(error, self._loading.workers)
                if lost is None:
                    raise
                drop_frames(error)
            if lost is not None:
                batches = None
                self._end_workers()
                raise SettingsError(lost)
            if batch is None:
                return
            if isinstance(batch, BenchError):
                # Raised itself, it and this frame would hold one another, and the workers with them.
                raise type(batch)(str(batch))
            yield as_tensors(batch, self._loading.pin_memory) if self._by_value else batch

    @contextmanager
    def watched(self) -> Iterator[None]:
        """SettingsError for a worker that dies while the body runs, after which there are none.

        torch notices it at any moment of the main thread, not only while a batch is asked for, and raises a
        RuntimeError there.
        """
        try:
            yield
        except RuntimeError as error:
            lost = explain_lost(error, self._loading.workers)
            if lost is None:
                raise
            drop_frames(error)
            self._end_workers()
            raise SettingsError(lost) from error

    def _end_workers(self) -> None:
        self._loader = self._make_loader()  # the workers end with the one that they belong to


class _Samples(Dataset[Sample | BenchError]):
    """What a worker process carries; its pool is empty when it starts."""

    def __init__(self, dataset: TrainingSet, recipe: Recipe, seed: int, pool: TilePool) -> None:
        self.dataset, self.recipe, self.seed, self.pool = dataset, recipe, seed, pool

    def __getitem__(self, key: Key) -> Sample | BenchError:
        epoch, index = key
        try:
            return training_sample(self.dataset, index, self.recipe, self.seed, epoch, self.pool)
        except Exception as error:  # raised in a worker it would arrive with a traceback for a message
            return failure_of_sample(error, self.dataset.paths[index].name)


def _collate(samples: Sequence[Sample | BenchError], into_shared_memory: bool = True) -> Batch | BenchError:
    images, targets = [], []
    for number, sample in enumerate(samples):
        if isinstance(sample, BenchError):
            return sample
        images.append(sample.pixels)
        image = np.full(len(sample.labels), number)
        targets.append(np.column_stack([image, sample.labels, sample.boxes]).astype(np.float32))
    # A worker puts its batches into shared memory here, where a lack of it is an error that arrives: the
    # thread that sends them would drop the batch.
    is_shared = into_shared_memory and get_worker_info() is not None
    height, width = images[0].shape[:2]
    batch = empty_bytes(sum(each.size for each in images), is_shared).view(-1, 3, height, width)
    for pixels, (red, green, blue) in zip(images, batch.numpy(), strict=True):
        cv2.split(pixels, [blue, green, red])
    rows = torch.from_numpy(np.concatenate(targets))
    return batch, shared(rows) if is_shared else rows


def _collate_by_value(samples: Sequence[Sample | BenchError]) -> Any:
    """The same batch as arrays, which are pickled whole, where a tensor would go into shared memory."""
    batch = _collate(samples, into_shared_memory=False)
    return batch if isinstance(batch, BenchError) else tuple(part.numpy() for part in batch)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already

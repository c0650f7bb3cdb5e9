"""Images a second that the input pipeline prepares, by workers and by cache, each beside none of either.

OMP_NUM_THREADS=1 python tests/benchmarks/input_pipeline.py path/to/coco --busy 0.5

Every way is run in turn, round after round, and its fastest round counts: others may use the cores as well.
Starting the workers and filling a cache are left out of the rounds and told apart. A busy consumer stands for
a training process that launches kernels: it takes a core for so long after each batch.
"""

import argparse
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Cache, Loading
from yolov9bench.zoo.recipes import find_recipe

BATCH_SIZE = 16
Way = tuple[int, Cache]  # workers and cache


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def burn(seconds: float) -> None:
    """Keep a core at work."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def seconds_of(batches: TrainingBatches, epoch: int, busy: float) -> float:
    """How long one epoch takes with a consumer that is busy after each batch."""
    began = time.perf_counter()
    for _ in batches.of_epoch(epoch):
        burn(busy)
    return time.perf_counter() - began


@contextmanager
def ready(
    dataset: CocoDataset, image_size: int, ways: list[Way], arguments: argparse.Namespace
) -> Iterator[dict[Way, TrainingBatches]]:
    """Each way's batches, its cache filled and its workers started."""
    recipe = find_recipe(arguments.recipe).varied(augmentation={"image_size": image_size})
    found = {}
    with tempfile.TemporaryDirectory(dir=arguments.cache_folder) as folder:
        for workers, cache in ways:
            began = time.perf_counter()
            loading = Loading(workers, cache, Path(folder), pool_bytes=int(arguments.pool_gb * 1e9))
            batches = TrainingBatches(dataset, recipe, BATCH_SIZE, seed=0, loading=loading)
            filled = time.perf_counter()
            next(iter(batches.of_epoch(0, start=len(batches) - 1)))
            started = time.perf_counter()
            say(
                f"{workers} workers, cache {cache}: set up in {filled - began:.2f} s, "
                f"first batch after {started - filled:.2f} s"
            )
            found[workers, cache] = batches
        yield found


def compare(dataset: CocoDataset, image_size: int, arguments: argparse.Namespace) -> None:
    """A line for each way: images a second in its fastest round, and beside none of either."""
    ways: list[Way] = list(itertools.product(arguments.workers, get_args(Cache)))
    with ready(dataset, image_size, ways, arguments) as batches:
        for busy in sorted({0.0, arguments.busy}):
            seconds: dict[Way, list[float]] = {way: [] for way in ways}
            for epoch, way in itertools.product(range(arguments.rounds), ways):
                seconds[way].append(seconds_of(batches[way], epoch, busy))
            say(f"\n{image_size} px, consumer busy for {busy} s a batch, best of {arguments.rounds} rounds")
            plain = min(seconds[ways[0]])
            for (workers, cache), times in seconds.items():
                rate = len(dataset.images) / min(times)
                say(f"{workers} workers, cache {cache:4}: {rate:6.1f} images/s, {plain / min(times):.2f} x")


def main() -> None:
    """Read the command line and compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("coco", type=Path, help="a folder in COCO's format")
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--limit", type=int, default=96, help="images, of the split's first ids")
    parser.add_argument("--recipe", default="yolov8-n")
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[640, 320])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=float, default=0.0, help="seconds of a core after each batch")
    parser.add_argument("--pool-gb", type=float, default=0.0, help="with cache none, for tiles of mosaics")
    parser.add_argument(
        "--cache-folder", type=Path, help="where the file lies; the system's choice if omitted"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    dataset = read_coco(arguments.coco, arguments.split, arguments.limit)
    for image_size in arguments.image_sizes:
        compare(dataset, image_size, arguments)


if __name__ == "__main__":
    main()

"""What metrics and storage of many detections cost, beside raw hotcoco, pycocotools and faster-coco-eval.

OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/benchmarks/metrics_at_scale.py --images 5000 --an-image 200

The detections are synthetic, arrays per image as suppression hands them over. Every way runs in a process of
its own, round after round, and its round of least processor time counts: others may use the cores as well.
Peak memory is that of the process above what it had with its input read. pycocotools and faster-coco-eval,
which is optional, run on a tenth of the images.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from record_parts import EMPTY
from synthetic_detections import CATEGORIES, Arrays, Case, make_case

from yolov9bench import records
from yolov9bench.evaluation.coco_metrics import coco_result
from yolov9bench.evaluation.intervals import ap_interval
from yolov9bench.evaluation.truth import coco_lists, read_truth, result_array
from yolov9bench.evaluation.values import store_predictions
from yolov9bench.predict.predictions import predictions_of
from yolov9bench.records.contents import METRICS

Stats = list[float]
Ready = Callable[[], Stats]  # what is measured, its input read
MEGABYTE = 2**20
TOLERANCE = 1e-12  # between evaluators


@dataclass(frozen=True)
class Cost:
    """Processor seconds, seconds by the clock, MiB above the input, and the twelve metrics, if any."""

    cpu: float
    wall: float
    memory: float
    stats: Stats


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_case(case: Case, folder: Path) -> None:
    """The case as files: the ground truth and a result file as evaluators read them, and plain arrays."""
    columns = [np.concatenate(each) for each in zip(*case.found.values(), strict=True)]
    counts = [len(scores) for _, scores, _ in case.found.values()]
    np.savez(folder / "found.npz", *columns, np.array([list(case.found), counts]))
    (folder / "truth.json").write_text(json.dumps(case.ground_truth))
    store_predictions(predictions_of(case.found, CATEGORIES), folder / "found.json")


def read_found(folder: Path) -> dict[int, Arrays]:
    with np.load(folder / "found.npz") as stored:
        boxes, scores, labels, (images, counts) = (stored[name] for name in stored.files)
    ends = np.cumsum(counts)[:-1]
    parts = zip(*(np.split(each, ends) for each in (boxes, scores, labels)), strict=True)
    return dict(zip(images.tolist(), parts, strict=True))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def hotcoco_stats(dataset: Any, results: Any) -> Stats:
    evaluator = hotcoco.COCOeval(dataset, dataset.load_res(results), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summary_lines()
    values = evaluator.get_results()
    return [values[name] for name in METRICS]


def from_arrays(folder: Path) -> Ready:
    """Raw hotcoco on arrays, from its loading them to its metrics."""
    truth = read_truth(read_json(folder / "truth.json"))
    results = result_array(truth, predictions_of(read_found(folder), CATEGORIES))

    def work() -> Stats:
        columns = truth.images, truth.categories, truth.boxes_xywh
        dataset = hotcoco.COCO.from_arrays(
            *coco_lists(truth), *columns, area=truth.areas, iscrowd=truth.crowds
        )
        return hotcoco_stats(dataset, results)

    return work


def from_files(folder: Path) -> Ready:
    """Raw hotcoco on an annotation file and a result file."""
    return lambda: hotcoco_stats(hotcoco.COCO(str(folder / "truth.json")), str(folder / "found.json"))


def to_record(folder: Path, suffix: str) -> Ready:
    """From arrays per image to a written record: metrics, hash, file of detections; without the interval."""
    truth, found = read_json(folder / "truth.json"), read_found(folder)

    def work() -> Stats:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            predictions = predictions_of(found, CATEGORIES)
            metrics = coco_result(truth, predictions).metrics
            stored = store_predictions(predictions, Path(scratch, f"detections{suffix}"))
            records.write(replace(EMPTY, values=metrics | {"detections": stored}), Path(scratch))
        return list(metrics.values())

    return work


def interval(folder: Path) -> Ready:
    """The interval of AP alone."""
    truth, predictions = read_json(folder / "truth.json"), predictions_of(read_found(folder), CATEGORIES)

    def work() -> Stats:
        ap_interval(truth, predictions)
        return []

    return work


def from_pycocotools(folder: Path, coco: Any = COCO, evaluator_class: Any = COCOeval) -> Ready:
    def work() -> Stats:
        with redirect_stdout(StringIO()):
            dataset = coco(str(folder / "truth.json"))
            evaluator = evaluator_class(dataset, dataset.loadRes(str(folder / "found.json")), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return [float(value) for value in evaluator.stats[: len(METRICS)]]

    return work


def from_faster(folder: Path) -> Ready:
    faster: Any = import_module("faster_coco_eval")
    return from_pycocotools(folder, faster.COCO, faster.COCOeval_faster)


WAYS: dict[str, Callable[[Path], Ready]] = {
    "hotcoco, arrays": from_arrays,
    "hotcoco, files": from_files,
    "record, .npz": lambda folder: to_record(folder, ".npz"),
    "record, .json": lambda folder: to_record(folder, ".json"),
    "interval": interval,
    "pycocotools": from_pycocotools,
    "faster-coco-eval": from_faster,
}
LARGE = ("hotcoco, arrays", "hotcoco, files", "record, .npz", "record, .json", "interval")
SMALL = ("hotcoco, arrays", "record, .npz", "pycocotools", "faster-coco-eval")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def measure(way: str, folder: Path) -> Cost:
    """One run, in a process of its own."""
    work = WAYS[way](folder)
    memory, cpu, wall = peak(), time.process_time(), time.perf_counter()
    stats = work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall, peak() - memory, stats)


def compare(ways: tuple[str, ...], images: int, an_image: int, rounds: int) -> None:
    """A line for each way, its processor time beside that of the first."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_case(make_case(images, an_image), folder)
        size = (folder / "found.json").stat().st_size / MEGABYTE
        say(f"\n{images:,} images, {images * an_image:,} detections, {size:.0f} MiB of JSON")
        costs: dict[str, list[Cost]] = {way: [] for way in ways}
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for _ in range(rounds):
                for way in ways:
                    costs[way].append(pool.apply(measure, (way, folder)))
    best = {way: min(each, key=lambda cost: cost.cpu) for way, each in costs.items()}
    first = best[ways[0]]
    say("way               CPU s  of first  clock s  MiB above input  metrics")
    for way, cost in best.items():
        off = max((abs(a - b) for a, b in zip(cost.stats, first.stats, strict=False)), default=None)
        equal = "-" if off is None else "equal" if off == 0 else f"within {off:.1e}"
        assert off is None or off <= TOLERANCE, f"{way} differs by {off}"
        say(
            f"{way:16} {cost.cpu:6.2f} {cost.cpu / first.cpu:9.2f} {cost.wall:8.2f} "
            f"{max(each.memory for each in costs[way]):16.0f}  {equal}"
        )


def main() -> None:
    """Read the command line and compare on all images and on a tenth of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--an-image", type=int, default=200, help="detections of each image")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    is_there = find_spec("faster_coco_eval") is not None
    small = SMALL if is_there else SMALL[:-1]
    compare(LARGE, arguments.images, arguments.an_image, arguments.rounds)
    compare(small, arguments.images // 10, arguments.an_image, arguments.rounds)


if __name__ == "__main__":
    main()

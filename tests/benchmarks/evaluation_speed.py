"""Whole evaluations of this code, of another checkout and of Ultralytics in turn: seconds, memory and AP.

python tests/benchmarks/evaluation_speed.py yolov8n.pt data/coco --images 100 --threads 2 --rounds 3 \\
    --before ../another-checkout --ultralytics ../venv/bin/python

Each run is a process of its own, from its start to its end: the interval and the record of ours are in it.
CPU seconds are those of the process and of what it started. Protocol ultralytics-square, float32, batches of
16. More images than the folder has are its own under new ids. The first run of ours, which chooses a backend,
stands apart.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolov9bench.data.coco import CocoImage, read_coco
from yolov9bench.profiling import peers
from yolov9bench.profiling.peer_data import DESCRIPTION, write_peer_data
from yolov9bench.profiling.processes import Run, paired_ratio, spread_of, time_process
from yolov9bench.speed import ap_of_ultralytics, last_line

ROOT = Path(__file__).parents[2]
ULTRALYTICS = Path(peers.__file__).with_name("ultralytics_val.py")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def repeated(coco: Path, count: int, folder: Path) -> Path:
    """A data set of `count` images, linked into a folder for COCO's readers and for Ultralytics'."""
    dataset = read_coco(coco)
    by_image: dict[int, list[dict[str, Any]]] = {image.id: [] for image in dataset.images}
    for annotation in dataset.annotations:
        by_image[annotation["image_id"]].append(annotation)
    images: list[CocoImage] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        image = dataset.images[(number - 1) % len(dataset.images)]
        images.append(replace(image, id=number))
        for each in by_image[image.id]:
            annotations.append(each | {"id": len(annotations) + 1, "image_id": number})
    write_peer_data(replace(dataset, images=tuple(images), annotations=annotations), folder)
    return folder


def commands(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Callable[[], Run]]:
    """What is run in turn, by name."""
    threads = {"OMP_NUM_THREADS": str(arguments.threads), "YOLOV9BENCH_CACHE": str(folder / "cache")}
    usual, weights = {**os.environ, **threads}, str(arguments.weights.absolute())
    record = folder / "record.json"

    def ours(checkout: Path, *more: str) -> Callable[[], Run]:
        command = [sys.executable, "-m", "yolov9bench", "evaluate", "--checkpoint", weights]
        command += ["--dataset", str(data), "--protocol", "ultralytics-square", "--device", "cpu"]
        command += ["--json", str(record), *more]
        place = checkout.absolute()  # which comes before what is installed

        def run() -> Run:
            found, _ = time_process(command, {**usual, "PYTHONPATH": str(place)}, place)
            return replace(found, ap=json.loads(record.read_text())["values"]["AP"])

        return run

    def ultralytics() -> Run:
        python, shape = str(arguments.ultralytics.absolute()), "square"
        words = [weights, str(data / DESCRIPTION), str(folder), shape, str(arguments.threads)]
        settings = {**usual, "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1"}
        found, text = time_process([python, str(ULTRALYTICS), *words], settings, folder)
        said = last_line(text)
        rows = json.loads(Path(said["result"]).read_text())
        return replace(found, ap=ap_of_ultralytics(read_coco(data), rows, said["categories"]))

    found = {"this code": ours(ROOT)}
    if arguments.plain:
        found["this code, plain"] = ours(ROOT, "--backend", "plain")
    if arguments.before:
        found["before"] = ours(arguments.before)
    if arguments.ultralytics:
        found["ultralytics"] = ultralytics
    return found


def line_of(run: Run) -> str:
    return f"wall {run.wall:7.1f} s, CPU {run.cpu:7.1f} s, {run.memory / 1e6:6.0f} MB, AP {run.ap:.5f}"


def main() -> None:
    """Run all in turn and print each run, then medians and their ratios to this code's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument(
        "coco", type=Path, help="a folder with annotations/instances_val2017.json and val2017/"
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="this code with the plain backend too")
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--ultralytics", type=Path, help="a Python that has ultralytics")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = commands(arguments, repeated(arguments.coco, arguments.images, folder / "data"), folder)
        say(f"{'this code, first run':20} {line_of(runs['this code']())}")
        seen: dict[str, list[Run]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                seen[name].append(last := run())
                say(f"{name:20} {line_of(last)}")
    say(f"\nmedians of {arguments.rounds} on {arguments.images} images, {arguments.threads} threads")
    for name, own in seen.items():
        parts = []
        for key, title in (("wall", "wall"), ("cpu", "CPU")):
            mine, other = ([getattr(run, key) for run in each] for each in (seen["this code"], own))
            ratio = paired_ratio(mine, other).median
            parts.append(f"{title} {spread_of(other).median:7.1f} s ({ratio:.2f} x)")
        say(f"{name:20} {', '.join(parts)}, {max(run.memory for run in own) / 1e6:6.0f} MB")


if __name__ == "__main__":
    main()

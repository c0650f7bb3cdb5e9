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
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

PEER = """
import sys
from ultralytics import YOLO
found = YOLO(sys.argv[1]).val(
    data=sys.argv[2], imgsz=640, batch=16, rect=False, conf=0.001, iou=0.7, max_det=300, device="cpu",
    half=False, workers=0, plots=False, verbose=False, project=sys.argv[3], name="peer", exist_ok=True,
)
print(f"AP {found.box.map:.5f}")
"""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """Seconds of one process, its peak of memory in MB, and the AP that it printed."""

    wall: float
    cpu: float
    memory: float
    ap: str

    def __str__(self) -> str:
        return f"wall {self.wall:7.1f} s, CPU {self.cpu:7.1f} s, {self.memory:6.0f} MB, AP {self.ap}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def repeated(coco: Path, count: int, folder: Path) -> Path:
    """A data set of `count` images, linked into a folder for COCO's readers and for Ultralytics'."""
    content = json.loads((coco / "annotations/instances_val2017.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    labels = {each["id"]: place for place, each in enumerate(content["categories"])}
    places = [folder / name for name in ("val2017", "images/val2017", "labels/val2017", "annotations")]
    for place in places:
        place.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        image = content["images"][(number - 1) % len(content["images"])]
        name, source = f"{number:012d}.jpg", (coco / "val2017" / image["file_name"]).absolute()
        for place in places[:2]:
            (place / name).symlink_to(source)
        images.append(image | {"id": number, "file_name": name})
        own = by_image[image["id"]]
        annotations += [
            each | {"id": len(annotations) + i, "image_id": number} for i, each in enumerate(own, 1)
        ]
        lines = [label_line(each, image, labels) for each in own if not each["iscrowd"]]
        (places[2] / f"{number:012d}.txt").write_text("\n".join(lines))
    kept = {"images": images, "annotations": annotations, "categories": content["categories"]}
    (places[3] / "instances_val2017.json").write_text(json.dumps(kept))
    names = {place: each["name"] for place, each in enumerate(content["categories"])}
    description = {"path": str(folder), "train": "images/val2017", "val": "images/val2017", "names": names}
    (folder / "peer.yaml").write_text(json.dumps(description))  # JSON is YAML
    return folder


def label_line(annotation: dict[str, Any], image: dict[str, Any], labels: dict[int, int]) -> str:
    """A box as Ultralytics reads it: label, centre and size as shares of the image."""
    left, top, width, height = annotation["bbox"]
    centre = (left + width / 2) / image["width"], (top + height / 2) / image["height"]
    sides = width / image["width"], height / image["height"]
    return " ".join([str(labels[annotation["category_id"]]), *(f"{each:.6f}" for each in (*centre, *sides))])


def timed(command: list[str], environment: dict[str, str], place: Path) -> Run:
    """Run a command in a folder to its end; CalledProcessError with what it said if it fails."""
    began = perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=place, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, text)
    ap = next(line.split()[1] for line in text.splitlines() if line.startswith("AP "))
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, ap)


def commands(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Callable[[], Run]]:
    """What is run in turn, by name."""
    threads = {"OMP_NUM_THREADS": str(arguments.threads), "YOLOV9BENCH_CACHE": str(folder / "cache")}
    usual, weights = {**os.environ, **threads}, str(arguments.weights.absolute())

    def ours(checkout: Path, *more: str) -> Callable[[], Run]:
        command = [sys.executable, "-m", "yolov9bench", "evaluate", "--checkpoint", weights]
        command += ["--dataset", str(data), "--protocol", "ultralytics-square", "--device", "cpu"]
        command += ["--json", str(folder / "record.json"), *more]
        place = checkout.absolute()  # which comes before what is installed
        return lambda: timed(command, {**usual, "PYTHONPATH": str(place)}, place)

    found = {"this code": ours(ROOT)}
    if arguments.plain:
        found["this code, plain"] = ours(ROOT, "--backend", "plain")
    if arguments.before:
        found["before"] = ours(arguments.before)
    if arguments.ultralytics:
        peer = [str(arguments.ultralytics.absolute()), "-c", PEER, weights, str(data / "peer.yaml")]
        settings = {**usual, "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1"}
        found["ultralytics"] = lambda: timed([*peer, str(folder)], settings, folder)
    return found


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
        first = runs["this code"]()
        say(f"{'this code, first run':20} {first}")
        seen: dict[str, list[Run]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                seen[name].append(last := run())
                say(f"{name:20} {last}")
    medians = {
        name: [statistics.median(getattr(each, key) for each in own) for key in ("wall", "cpu", "memory")]
        for name, own in seen.items()
    }
    say(f"\nmedians of {arguments.rounds} on {arguments.images} images, {arguments.threads} threads")
    for name, (wall, cpu, memory) in medians.items():
        by_wall, by_cpu = wall / medians["this code"][0], cpu / medians["this code"][1]
        ratios = f"wall {wall:7.1f} s ({by_wall:.2f} x), CPU {cpu:7.1f} s ({by_cpu:.2f} x)"
        say(f"{name:20} {ratios}, {memory:6.0f} MB")


if __name__ == "__main__":
    main()

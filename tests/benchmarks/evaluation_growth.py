"""What an image costs an evaluation as the images become more: CPU seconds beside the network's, and memory.

PYTHONPATH=tests/benchmarks python tests/benchmarks/evaluation_growth.py yolov8n.pt data/coco

Each evaluation is a process of its own, by one thread, from its start to its record. More images than the
folder has are its own under new ids. The network's seconds are those within the detector's forward pass.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation_speed import ROOT, repeated, say

CHILD = """
import json, resource, sys, time
from yolov9bench.nn.detector import Detector
from yolov9bench.__main__ import main

seconds, forward = [], Detector.forward

def timed(detector, images):
    began = time.process_time()
    outputs = forward(detector, images)
    seconds.append(time.process_time() - began)
    return outputs

Detector.forward = timed
target, *sys.argv[1:] = sys.argv[1:]
status = main()
found = {"all": time.process_time(), "network": sum(seconds),
         "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
open(target, "w").write(json.dumps(found))
sys.exit(status)
"""


def measure(weights: Path, data: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of all and of the network, and the peak of memory in bytes, of one evaluation."""
    target = folder / "found.json"
    words = ["evaluate", "--checkpoint", str(weights.absolute()), "--dataset", str(data)]
    words += ["--protocol", "ultralytics-square", "--device", "cpu", "--json", str(folder / "record.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "YOLOV9BENCH_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", CHILD, str(target), *words]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found: dict[str, float] = json.loads(target.read_text())
    return found


def main() -> None:
    """Evaluate so many images, one number of them after the other, and print what each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("coco", type=Path, help="a folder with annotations/instances_val2017.json, val2017/")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 1300])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.weights, repeated(arguments.coco, 8, Path(temporary) / "first"), Path(temporary))
        for count in arguments.images:
            data = repeated(arguments.coco, count, Path(temporary) / str(count))
            found = measure(arguments.weights, data, Path(temporary))
            beside = found["all"] - found["network"]
            say(
                f"{count:5} images: CPU {found['all']:7.1f} s, the network {found['network']:7.1f} s, "
                f"beside it {beside:6.1f} s ({beside / found['all']:.1%}, {1e3 * beside / count:.2f} ms an "
                f"image), {1e3 * found['all'] / count:.1f} ms an image, peak {found['bytes'] / 1e6:,.1f} MB"
            )


if __name__ == "__main__":
    main()

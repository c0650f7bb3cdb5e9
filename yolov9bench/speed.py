"""Speed beside peers: whole evaluations, metrics and the network in turn, each with its accuracy.

python -m yolov9bench speed --dataset data/coco --peer-python peers/bin/python
papermill notebooks/speed.ipynb OUT.ipynb -p dataset data/coco -p rounds 5
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yolov9bench.config import SpeedConfig
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import ProcessError, shown
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.evaluate import resolve_device
from yolov9bench.evaluation.run_network import full_float32
from yolov9bench.io.machine import describe_environment
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.profiling import peers
from yolov9bench.profiling.gpu_latency import measure_latencies
from yolov9bench.profiling.latency import SECONDS
from yolov9bench.profiling.peer_data import DESCRIPTION, write_peer_data
from yolov9bench.profiling.processes import Run, time_in_turn, time_process
from yolov9bench.profiling.speed import PEERS, Speed
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.protocols import PROTOCOLS

OURS, ROUNDED, ULTRALYTICS = "yolov9bench", "yolov9bench, bfloat16", PEERS[0]
METRICS = {"hotcoco": "hotcoco", "pycocotools": "pycocotools", "faster-coco-eval": "faster_coco_eval"}
SCRIPTS = Path(peers.__file__).parent
ROOT = Path(__file__).parents[1]


def measure_speed(config: SpeedConfig) -> Speed:
    """Time everything in turn. SettingsError, DatasetError and CheckpointError before anything runs.

    ProcessError for a way that fails, with the last line that it printed.
    """
    config.require_paths()
    checkpoint = load_any(config.checkpoint)
    dataset = read_coco(config.dataset_folder, config.split, config.limit)
    assert checkpoint.path is not None  # it was read from a file
    start = datetime.now(UTC).isoformat(timespec="seconds")
    python = absolute_program(config.peer_python)
    versions = find_versions(python)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(config, Path(scratch), dataset, checkpoint.path, python)
        write_peer_data(dataset, bench.data)
        evaluations = time_in_turn(bench.evaluations(ULTRALYTICS in versions), config.rounds)
        metrics = time_in_turn(bench.metrics("faster-coco-eval" in versions), config.rounds)
        network, differences = bench.network()
    device, latencies = resolve_device("auto"), {}
    if device != "cpu":
        with full_float32():
            side = PROTOCOLS[config.protocol].image_size
            latencies = measure_latencies(checkpoint.detector.deployed(), side, device, SECONDS)
    return Speed(
        asked=config,
        start=start,
        environment=replace(describe_environment("cpu"), threads=config.cores),
        images=len(dataset.images),
        weights_sha256=checkpoint.sha256,
        evaluations=evaluations,
        metrics=metrics,
        network=network,
        differences=differences,
        versions=versions,
        absent=tuple(name for name in PEERS if name not in versions),
        latencies=latencies,
    )


def absolute_program(python: str) -> str:
    """The program from any folder, its links unfollowed, by which a Python knows its packages."""
    found = sys.executable if python == "auto" else shutil.which(python)
    return str(Path(found or python).absolute())


def find_versions(python: str) -> dict[str, str]:
    """The versions of the peers that a Python has; ProcessError if it does not start."""
    program = (
        "import importlib.metadata as m, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", program, *PEERS], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError(f"peer_python {python} does not start: {shown(done.stderr.strip()[-300:])}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Bench:
    """Where the runs of one comparison take place, and what each of them is given."""

    config: SpeedConfig
    scratch: Path
    dataset: CocoDataset
    weights: Path
    peer_python: str

    @property
    def data(self) -> Path:
        """The folder of the data set."""
        return self.scratch / "data"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of each process: as many threads to all, this code before what is installed."""
        threads = str(self.config.cores)
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # A notebook's own backend of Matplotlib, which it hands on, needs a package that peers may lack.
        peers_own = {"YOLO_CONFIG_DIR": str(self.scratch), "YOLO_OFFLINE": "1", "MPLBACKEND": "Agg"}
        return {**os.environ, **own, **peers_own, "PYTHONPATH": paths}

    def evaluations(self, with_ultralytics: bool) -> dict[str, Callable[[], Run]]:
        """Whole evaluations, from the start of the process to its record."""
        ways = {OURS: lambda: self.evaluate("auto"), ROUNDED: lambda: self.evaluate("bfloat16")}
        if with_ultralytics:
            ways[ULTRALYTICS] = self.validate_by_ultralytics
        self.evaluate("auto")  # chooses a backend, which later runs find
        return ways

    def detections_by(self, backend: str) -> Path:
        """The file of what the last evaluation by a backend found."""
        return self.scratch / f"found-{backend}.json"

    def evaluate(self, backend: str) -> Run:
        """One evaluation of ours, its interval, record and detections included."""
        record, detections = self.scratch / "record.json", self.detections_by(backend)
        words = ["evaluate", "--checkpoint", str(self.weights), "--dataset", str(self.data)]
        words += ["--protocol", self.config.protocol, "--device", "cpu", "--backend", backend]
        words += ["--json", str(record), "--detections", str(detections)]
        run, _ = self.run([sys.executable, "-m", "yolov9bench", *words])
        return replace(run, ap=json.loads(record.read_text(encoding="utf-8"))["values"]["AP"])

    def validate_by_ultralytics(self) -> Run:
        """One validation of Ultralytics', and COCO's AP of the detections that it wrote."""
        shape = "square" if self.config.protocol.endswith("square") else "rectangular"
        script, data = SCRIPTS / "ultralytics_val.py", self.data / DESCRIPTION
        words = [str(script), str(self.weights), str(data), str(self.scratch), shape, str(self.config.cores)]
        run, text = self.run([self.peer_python, *words])
        said = last_line(text)
        rows = json.loads(Path(said["result"]).read_text(encoding="utf-8"))
        return replace(run, ap=ap_of_ultralytics(self.dataset, rows, said["categories"]))

    def metrics(self, with_faster: bool) -> dict[str, Callable[[], Run]]:
        """COCO's metrics alone, of the detections that the last evaluation of ours wrote."""
        names = [name for name in METRICS if with_faster or name != "faster-coco-eval"]
        return {name: lambda name=name: self.score(name) for name in names}  # type: ignore[misc]

    def score(self, name: str) -> Run:
        """The metrics of one library, by itself."""
        files = [self.data / "annotations/instances_val2017.json", self.detections_by("auto")]
        python = self.peer_python if name == "faster-coco-eval" else sys.executable
        run, text = self.run([python, str(SCRIPTS / "coco_metrics_by.py"), METRICS[name], *map(str, files)])
        return replace(run, ap=float(last_line(text)["metrics"][0]))

    def network(self) -> tuple[dict[str, list[float]], dict[str, float]]:
        """The network alone by every way of the peers' Python: seconds an image, and differences."""
        words = [str(self.weights), str(self.config.rounds), str(self.config.cores)]
        _, text = self.run([self.peer_python, str(SCRIPTS / "network_by.py"), *words])
        found = last_line(text)
        return found["seconds"], found["differences"]

    def run(self, command: Sequence[str]) -> tuple[Run, str]:
        return time_process(command, self.environment, self.scratch)


def last_line(text: str) -> dict[str, Any]:
    """What a peer's program printed at its end; ProcessError if that is no JSON object."""
    line = next((each for each in reversed(text.splitlines()) if each.strip()), "")
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ProcessError(f"a peer's program ended with {shown(line)!r}, not with its result") from error
    if not isinstance(found, dict):
        raise ProcessError(f"a peer's program ended with {shown(line)!r}, not with its result")
    return found


def ap_of_ultralytics(
    dataset: CocoDataset, rows: Sequence[Mapping[str, Any]], categories: Sequence[int]
) -> float:
    """COCO's AP of a result file of Ultralytics', with the category that it has for each label, in order."""
    ids = {own: number for own, (number, _) in zip(categories, dataset.categories, strict=False)}
    mapped = [dict(row) | {"category_id": ids[row["category_id"]]} for row in rows]
    return coco_metrics(dataset.ground_truth(), predictions_from_rows(mapped))["AP"]

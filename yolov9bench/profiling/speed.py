"""What a comparison of speeds gave: as a table, a figure and a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolov9bench.config import SpeedConfig
from yolov9bench.io.files import write_json
from yolov9bench.io.progress import counted
from yolov9bench.io.provenance import Environment
from yolov9bench.profiling.gpu_latency import Latency
from yolov9bench.profiling.processes import Run, paired_ratio, spread_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PEERS = ("ultralytics", "faster-coco-eval", "onnxruntime")
INSTALL = "pip install 'yolov9bench[peers]', or name a Python that has it as peer_python"


@dataclass(frozen=True)
class Speed:
    """What was measured: runs of whole evaluations and of metrics by name, and of the network alone.

    `network`: CPU seconds an image of each round, by name; `differences` of its outputs from the plain ones,
    relative to their largest value. `versions` of the peers; `absent`: those that were not there.
    `latencies` of one image on a GPU, by name; empty where there is none.
    """

    asked: SpeedConfig
    start: str
    environment: Environment
    images: int
    weights_sha256: str
    evaluations: dict[str, list[Run]]
    metrics: dict[str, list[Run]]
    network: dict[str, list[float]]
    differences: dict[str, float]
    versions: dict[str, str]
    absent: tuple[str, ...] = field(default=())
    latencies: dict[str, Latency] = field(default_factory=dict)


def table_of(speed: Speed) -> list[dict[str, str]]:
    """A row for each way: what it did, medians with the least and greatest, ratios to ours, and accuracy."""
    rows = []
    for what, ways in (("evaluation", speed.evaluations), ("metrics alone", speed.metrics)):
        first = next(iter(ways.values()), [])
        rows += [_row_of(what, name, runs, first) for name, runs in ways.items()]
    plain = next(iter(speed.network.values()), [])
    for name, seconds in speed.network.items():
        rows.append(
            {
                "what": "network, an image",
                "way": name,
                "clock s": "",
                "CPU s": f"{1e3 * spread_of(seconds).median:.1f} ms",
                "times the first's CPU s": str(paired_ratio(plain, seconds)),
                "peak MB": "",
                "accuracy": f"outputs within {speed.differences[name]:.1e}",
            }
        )
    rows += [_latency_row(name, each, speed.latencies) for name, each in speed.latencies.items()]
    return rows


def _latency_row(name: str, found: Latency, others: Mapping[str, Latency]) -> dict[str, str]:
    """One way on a GPU, by the clock: the median, and where enough runs tell them, two percentiles."""
    timing, first = found.timing, next(iter(others.values())).timing
    percentiles = {"p50": timing.p50, "p95": timing.p95, "p99": timing.p99}
    said = [f"{name} {1e3 * value:.2f} ms" for name, value in percentiles.items() if value is not None]
    words = {True: "clock held down", False: "clock not held down", None: "clock unknown"}
    return {
        "what": "one image on the GPU",
        "way": name,
        "clock s": ", ".join(said),
        "CPU s": "",
        "times the first's CPU s": f"{first.p50 / timing.p50:.2f} by the clock",
        "peak MB": "",
        "accuracy": f"outputs within {found.difference:.1e}; {words[found.throttled]}",
    }


def _row_of(what: str, name: str, runs: Sequence[Run], first: Sequence[Run]) -> dict[str, str]:
    cpu, other = ([run.cpu for run in each] for each in (runs, first))
    return {
        "what": what,
        "way": name,
        "clock s": str(spread_of([run.wall for run in runs])),
        "CPU s": str(spread_of(cpu)),
        "times the first's CPU s": str(paired_ratio(other, cpu)),
        "peak MB": f"{max(run.memory for run in runs) / 1e6:,.0f}",
        "accuracy": said_of(runs),
    }


def said_of(runs: Sequence[Run]) -> str:
    """AP of some runs: one figure, if all had the same."""
    return "AP " + ", ".join(sorted({f"{run.ap:.5f}" for run in runs if run.ap is not None}))


def describe(speed: Speed) -> dict[str, str]:
    """What ran where, by heading."""
    environment = speed.environment
    versions = {**(environment.versions or {}), **speed.versions}
    threads = f"{speed.asked.cores} threads a process"
    return {
        "images": f"{speed.images:,}",
        "weights": f"sha256 {speed.weights_sha256[:8]}…",
        "protocol": speed.asked.protocol,
        "rounds": str(speed.asked.rounds),
        "machine": f"{environment.device_name}, {environment.platform}, {threads}",
        "code": f"commit {environment.commit}" + (" with changes" if environment.dirty else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "start": speed.start,
    }


def describe_absent(speed: Speed) -> list[str]:
    """A sentence for each peer that was not there."""
    return [f"{name} is not installed and was left out: {INSTALL}." for name in speed.absent]


def write_speed(speed: Speed, folder: Path) -> list[Path]:
    """Write what was measured as speed.json, and its figure; the files written."""
    written = [folder / "speed.json", folder / "speed.png"]
    write_json(written[0], asdict(speed) | {"asked": describe_asked(speed.asked)})
    figure_of(speed).savefig(written[1], dpi=150)
    return written


def figure_of(speed: Speed) -> Figure:
    """Bars of whole evaluations and of metrics alone."""
    from yolov9bench.plots.speed import Timed, plot_speed

    images = counted(speed.images, "images")
    titles = {
        f"whole evaluations of {images}, from process start to record": speed.evaluations,
        f"COCO's metrics alone, of the detections on {images}": speed.metrics,
    }
    return plot_speed(
        {
            title: [
                Timed(name, [run.wall for run in runs], [run.cpu for run in runs], said_of(runs))
                for name, runs in ways.items()
            ]
            for title, ways in titles.items()
        }
    )


def describe_asked(config: SpeedConfig) -> dict[str, Any]:
    """What was asked, without the folders of a machine."""
    given = {
        name: value for name, value in vars(config).items() if name not in ("results_dir", "peer_python")
    }
    return given | {name: Path(str(given[name])).name for name in ("checkpoint", "dataset")}

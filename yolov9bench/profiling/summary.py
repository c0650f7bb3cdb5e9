"""What a measurement states, in words: a figure a line, published, predicted and measured apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from yolov9bench.records import Record
from yolov9bench.records.contents import (
    PUBLISHED_SETUP,
    MeasureValues,
    Memory,
    MemoryFigures,
    StepSettings,
    read_measure,
)
from yolov9bench.zoo.rows import ROWS, Row

ABSENT = "—"


def summary(record: Record) -> str:
    """A record of this kind in words, a figure a line; memory in GiB of 2**30 bytes."""
    stated = read_measure(record)
    settings = stated.settings
    lines = [
        *_cost_lines(stated.values),
        ("", f"raw maps in {settings.inference_precision} on {stated.environment.device_name}"),
        *_memory_lines(stated.values.memory, settings.training),
        *_published(ROWS[str(record.row)]),
    ]
    return "\n".join(
        [f"{record.row} at {settings.image_size} px", *(f"  {name:26}{text}" for name, text in lines)]
    )


def _cost_lines(values: MeasureValues) -> list[tuple[str, str]]:
    parameters, gflops, latency = values.parameters, values.gflops, values.latency_seconds
    percentiles = ", ".join(
        f"{name} {_milliseconds(getattr(latency, name))}" for name in ("p50", "p95", "p99")
    )
    best = values.throughput
    times = [
        ("latency, 1 image", f"{percentiles}; {latency.runs} runs"),
        (
            "best throughput",
            f"{_figure(best.images_per_second, '.1f').strip()} images/s in batches of {best.batch}",
        ),
    ]
    return [
        ("", f"{'training graph':>16}{'deployed':>16}"),
        ("parameters", f"{_figure(parameters.training, ',')}{_figure(parameters.deployed, ',')}"),
        ("GFLOPs", f"{_figure(gflops.training, '.1f')}{_figure(gflops.deployed, '.1f')}"),
        *(times if latency.runs is not None else [("latency", f"{ABSENT} (not measured)")]),
    ]


def _memory_lines(memory: Memory, steps: Mapping[str, StepSettings] | None) -> list[tuple[str, str]]:
    lines = [("memory, 1 image", f"{_memory(memory.inference)}; deployed on a GPU in float16")]
    for name, figures in (memory.training or {}).items():
        title = "in the published set-up" if name == PUBLISHED_SETUP else f"training memory, {name}"
        lines.append((title, _memory(figures)))
        if steps and name in steps:
            lines += [("", text) for text in _step_texts(steps[name])]
    lines.append(("", "predicted: without workspaces, which cuDNN chooses when it runs"))
    if steps is None:
        lines.append(("training memory", f"{ABSENT} (the recipe is not known)"))
    return lines


def _step_texts(step: StepSettings) -> list[str]:
    """The batch of a training step, and what the published set-up adds to it."""
    texts = [f"{step.batch_size} images, {step.boxes_an_image} boxes in each, {step.precision}"]
    if step.gradient_bytes is not None and step.assigner_bytes is not None:
        texts += [
            f"the fullest of {step.fullest_of_images} images, those between two lines of the log;",
            f"with buckets and kept gradients of {step.gradient_bytes / 2**30:.2f} GiB each,",
            f"and an assigner of the whole batch, {step.assigner_bytes / 2**30:.2f} GiB at once",
        ]
    return texts


def _figure(number: float | None, form: str) -> str:
    return f"{ABSENT if number is None else format(number, form):>16}"


def _milliseconds(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{1000 * seconds:.1f} ms"


def _memory(figures: MemoryFigures) -> str:
    """Every figure under its name, and the error of the prediction where it was measured too."""
    said = [
        f"{size / 2**30:.2f} GiB {name.removesuffix('_bytes')}"
        for name, size in asdict(figures).items()
        if size is not None
    ]
    predicted, allocated = figures.predicted_bytes, figures.allocated_bytes
    if predicted is not None and allocated is not None:
        said.append(f"error of the prediction {100 * (predicted / allocated - 1):+.1f} %")
    return ", ".join(said)


def _published(row: Row) -> list[tuple[str, str]]:
    """The published training memory in each unit that its authors may have meant; nothing without one."""
    published = row.published.memory_gb
    if published is None:
        return []
    return [
        ("published Mem (GB)", f"{published}: allocated, 16 images of 640 px on each of 8 GPUs"),
        ("", f"if a GB is 1e9 bytes, {published * 1e9 / 2**30:.2f} GiB; its unit is not stated,"),
        ("", f"so it may also be 1000 MiB ({published * 1000 / 1024:.2f} GiB) or GiB ({published:.2f} GiB)"),
    ]

"""What a row costs: parameters, arithmetic, time and memory, measured or predicted, as a Record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from time import perf_counter

import torch

from yolov9bench.errors import SettingsError, TrainingError, require_image_size, require_in_range
from yolov9bench.evaluation.evaluate import resolve_device
from yolov9bench.io import provenance
from yolov9bench.io.machine import describe_environment
from yolov9bench.nn.detector import Detector, build, skeleton
from yolov9bench.profiling import latency, training_memory
from yolov9bench.profiling.box_counts import fullest, fullest_shown
from yolov9bench.profiling.flops import count_gflops, count_parameters
from yolov9bench.profiling.latency import Timing
from yolov9bench.profiling.memory_tracker import BLOCK, counted
from yolov9bench.profiling.peak_memory import Peak, measure_peak
from yolov9bench.profiling.published_setup import LOGGED_ITERATIONS
from yolov9bench.profiling.training_memory import CLASSES, CROWDED, Workload
from yolov9bench.records import Record
from yolov9bench.records.contents import (
    PLAIN,
    PUBLISHED_SETUP,
    GraphCosts,
    MeasureInputs,
    MeasureSettings,
    MeasureValues,
    Memory,
    MemoryFigures,
    TimingFigures,
)
from yolov9bench.train.state import Precision
from yolov9bench.zoo.rows import Row
from yolov9bench.zoo.rows import row as row_by_id
from yolov9bench.zoo.specs import Spec

logger = logging.getLogger("yolov9bench")


def measure_row(
    row: str, device: str = "auto", image_size: int = 640, batch_size: int = 16, memory_only: bool = False
) -> Record:
    """Measure a row, and predict the memory that it takes on a GPU; nothing is written.

    Time is measured on `device`, unless `memory_only`: then its figures are None. `batch_size` is that of a
    training step, whose memory is always predicted, and measured on a CUDA device; a row whose recipe is not
    known has none. SettingsError for an unknown row, device or size.
    """
    chosen, device = row_by_id(row), resolve_device(device)
    start, began = datetime.now(UTC), perf_counter()
    work = workloads(chosen, image_size, batch_size)
    times = (None, None) if memory_only else time_detector(chosen.spec, device, image_size)
    values = measure_values(chosen.spec, work, device, image_size, times)
    return Record(
        row=chosen.id,
        kind="measure",
        values=asdict(values),
        settings=asdict(applied_settings(chosen, work, device, image_size, times[0] is not None)),
        inputs=asdict(
            MeasureInputs(weights="fresh", pixels="noise", spec=chosen.spec.name, classes=CLASSES, demo=False)
        ),
        environment=asdict(describe_environment(device)),
        seed=0,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=provenance.command(),
    )


def measure_values(
    spec: Spec,
    work: Mapping[str, Workload],
    device: str,
    image_size: int,
    times: tuple[Timing | None, Timing | None],
) -> MeasureValues:
    """Everything that is measured or predicted of a network; `times` are those of `time_detector`."""
    parameters, gflops = count_costs(spec, image_size)
    single, best = times
    memory = Memory(
        inference=measure_inference_memory(spec, device, image_size),
        training={name: measure_training_memory(each, device) for name, each in work.items()} or None,
    )
    return MeasureValues(
        parameters=parameters,
        gflops=gflops,
        latency_seconds=timing_figures(single),
        throughput=timing_figures(best),
        memory=memory,
    )


def applied_settings(
    row: Row, work: Mapping[str, Workload], device: str, image_size: int, timed: bool
) -> MeasureSettings:
    """The settings that ran, as a record has them."""
    return MeasureSettings(
        image_size=image_size,
        inference_precision=inference_precision(device),
        seconds_a_figure=latency.SECONDS if timed else None,
        allocator_block_bytes=BLOCK,
        training={name: each.settings() for name, each in work.items()} or None,
        recipe=None if row.recipe is None else asdict(row.recipe),
    )


def workloads(row: Row, image_size: int, batch_size: int) -> dict[str, Workload]:
    """The training steps whose memory counts; none without a recipe.

    Ours on a usual batch and on a crowded one, and the one of the set-up behind the published memory.
    """
    require_image_size(image_size)
    require_in_range(1, batch_size=batch_size)
    if row.recipe is None:
        return {}
    usual = Workload(row.spec, row.recipe, image_size, batch_size, fullest(batch_size), batch_size)
    logged = LOGGED_ITERATIONS * batch_size
    shown = fullest_shown(row.recipe.augmentation, logged)
    return {
        PLAIN: usual,
        "crowded": replace(usual, boxes=CROWDED, fullest_of=None),
        PUBLISHED_SETUP: replace(usual, boxes=shown, fullest_of=logged, setup="published"),
    }


def count_costs(spec: Spec, image_size: int) -> tuple[GraphCosts, GraphCosts]:
    """Parameters and GFLOPs, each of the graph that is trained and of the one that is deployed."""
    trained = build(spec, CLASSES)
    deployed = trained.deployed()
    return (
        GraphCosts(training=count_parameters(trained), deployed=count_parameters(deployed)),
        GraphCosts(training=count_gflops(trained, image_size), deployed=count_gflops(deployed, image_size)),
    )


def inference_precision(device: str) -> Precision:
    """Half precision on a GPU; a CPU is not faster in it."""
    return "float16" if torch.device(device).type == "cuda" else "float32"


def build_deployed(spec: Spec, device: str) -> Detector:
    """A detector as it is deployed on a device, with fresh weights.

    Its normalisation has seen noise: otherwise the signal dies out, and a CPU is slow on numbers near 0.
    """
    detector = build(spec, CLASSES)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees, not a running average
    with torch.no_grad():
        detector(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    detector = detector.deployed().to(device)
    if inference_precision(device) == "float16":
        detector = detector.half().to(memory_format=torch.channels_last)
    return detector


def time_detector(spec: Spec, device: str, image_size: int) -> tuple[Timing, Timing]:
    """Time on one image, and on the batch of highest throughput; SettingsError where not even one fits."""
    detector = build_deployed(spec, device)

    def timing_of(batch: int) -> Timing:
        return latency.time_runs(latency.make_forward(detector, batch, image_size), batch, latency.SECONDS)

    try:
        single = timing_of(1)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            f"one image of {image_size} px does not fit into the GPU's memory: measure a smaller image_size"
        ) from error
    return single, latency.find_best_batch(timing_of, single)


def timing_figures(timing: Timing | None) -> TimingFigures:
    """A timing as a record has it; None in every field where there is none."""
    if timing is None:
        return TimingFigures(**dict.fromkeys(field.name for field in fields(TimingFigures)))
    return TimingFigures(**asdict(timing), images_per_second=timing.images_per_second)


def measure_inference_memory(spec: Spec, device: str, image_size: int) -> MemoryFigures:
    """Memory of one image through the deployed detector in half precision: weights and feature maps."""
    detector = skeleton(spec, CLASSES, fused=True).without_aux().eval()
    shapes = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    with counted() as memory, torch.inference_mode():
        weights = {name: torch.empty(shape, dtype=torch.float16) for name, shape in shapes.items()}
        detector.load_state_dict(weights, assign=True)
        detector(torch.empty(1, 3, image_size, image_size, dtype=torch.float16))
        del detector, weights
    predicted = memory.peak
    if torch.device(device).type != "cuda":
        return memory_figures(predicted, None)
    run = latency.make_forward(build_deployed(spec, device), 1, image_size)
    run()
    return memory_figures(predicted, measure_peak(run, device))


def measure_training_memory(work: Workload, device: str) -> MemoryFigures:
    """Memory of a training step on one GPU: predicted, and our own measured where one has enough of it."""
    predicted, found = training_memory.predict_training_step(work), None
    if torch.device(device).type == "cuda" and work.setup == "own":
        try:
            found = training_memory.measure_training_step(work, device)
        except (torch.OutOfMemoryError, TrainingError) as error:
            logger.warning(
                "a step of %d images of %d px with %d boxes each is not measured (%s), but predicted to take "
                "%.1f GB: measure a smaller batch_size",
                *(work.batch_size, work.image_size, work.boxes),
                str(error).splitlines()[0],
                predicted / 1e9,
            )
    return memory_figures(predicted, found)


def memory_figures(predicted: int, found: Peak | None) -> MemoryFigures:
    """Predicted and measured bytes; None for what was not measured."""
    nothing = dict.fromkeys(field.name for field in fields(Peak))
    return MemoryFigures(predicted_bytes=predicted, **(nothing if found is None else asdict(found)))

"""A network over a data set: by a backend, in full float32 unless another type was asked for by name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.images_used import join_shares, too_large, warn_of_images
from yolov9bench.evaluation.precision_check import apply_checked
from yolov9bench.evaluation.self_check import require_behaviour
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.io.machine import describe_environment
from yolov9bench.io.progress import counted, track
from yolov9bench.io.provenance import Environment
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.compiler import require_compiler
from yolov9bench.ops.distributed import current_ranks
from yolov9bench.ops.kept_memory import give_back_free, kept_memory
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.choose_backend import choose_backend
from yolov9bench.predict.detect import detect_batch
from yolov9bench.predict.postprocess import counting
from yolov9bench.predict.predictions import Arrays, Predictions, predictions_of
from yolov9bench.records.contents import BackendSettings
from yolov9bench.zoo.backends import COMPILED, PLAIN, REDUCED, Backend
from yolov9bench.zoo.protocols import ULTRALYTICS_SQUARE, Protocol

GIVE_BACK_EVERY = 4  # batches; the pages are cleared again, which takes less than 1 % of the time

logger = logging.getLogger("yolov9bench")


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep CUDA from rounding float32 convolutions and products to TF32, its default for convolutions."""
    cudnn: Any = torch.backends.cudnn  # mypy does not see all its attributes
    backends: tuple[Any, ...] = (cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def require_one_process(settings: EvaluationSettings) -> None:
    """SettingsError where several processes would share what looks at a few images first."""
    if current_ranks().world_size == 1:
        return
    if settings.self_check:
        raise SettingsError("self_check is for one process: start it without torchrun, or leave it out")
    if settings.backend in REDUCED:
        raise SettingsError(
            f"backend {settings.backend} is for one process: start it without torchrun, or give another"
        )


def require_compilable(settings: EvaluationSettings, protocol: Protocol, device: str) -> None:
    """SettingsError where a network cannot be compiled: for every batch another shape, or no compiler."""
    if settings.backend != COMPILED.name:
        return
    if protocol.rectangular:
        raise SettingsError(
            f"backend {COMPILED.name} would translate the network for every shape of protocol "
            f"{protocol.name}: take a square one, such as {ULTRALYTICS_SQUARE.name}, or give another backend"
        )
    require_compiler(device)


def run_network(
    detector: Detector,
    batches: Batches,
    categories: Sequence[int | None],
    device: str,
    settings: EvaluationSettings,
) -> tuple[Predictions, Environment, BackendSettings]:
    """As `run_inference` by the backend of the settings, with what it ran on and how.

    The detector's weights are laid out and rounded as the backend has them, in place. SettingsError for a
    batch that does not fit into a GPU's memory, and for 16 bits with which AP is another one.
    """
    protocol = batches.protocol
    with full_float32(), kept_memory() as keeps:
        environment = describe_environment(str(next(detector.parameters()).device))
        try:
            backend = choose_backend(detector, settings.backend, protocol.image_size, device)
            network, check = apply_checked(
                detector,
                backend,
                batches,
                lambda network, few: run_inference(network, few, categories, device, backend),
            )
            if settings.self_check:
                require_behaviour(run_inference, network, batches.dataset, categories, batches, device)
            predictions = run_inference(network, batches, categories, device, backend)
        except torch.OutOfMemoryError as error:
            raise too_large(settings.batch_size, protocol) from error
    return predictions, environment, BackendSettings(backend.name, keeps, check)


def run_inference(
    detector: nn.Module,
    batches: Batches,
    categories: Sequence[int | None],
    device: str,
    backend: Backend = PLAIN,
) -> Predictions:
    """The detections of a whole data set, by ascending image id whatever order the protocol took.

    categories: as `predictions_of` takes them. backend: says how many images go through at a time.
    """
    count, protocol = counted(len(batches.dataset.images), "images"), batches.protocol
    logger.info("evaluating %s under protocol %s on %s", count, protocol.name, device)
    by_image: dict[int, Arrays] = {}
    is_main, title = current_ranks().is_main, f"evaluating {count}"
    # Nothing else holds the progress, so that it ends at once where an interrupt ends the loop.
    for number, batch in enumerate(
        track(batches, len(batches), title, "batches") if is_main else batches, start=1
    ):
        with counting(batches.counts):
            parts = [detect_batch(detector, part, protocol, device) for part in batch.split(backend.chunk)]
        detections = chain.from_iterable(parts)
        for image, each in zip(batch.images, detections, strict=True):
            boxes, scores, labels = (part.cpu().numpy() for part in each)
            by_image[image.id] = boxes, scores, labels
            batches.counts.images += 1
            batches.counts.detections += len(scores)
        if number % GIVE_BACK_EVERY == 0:
            give_back_free()
    by_image = join_shares(by_image, batches)
    warn_of_images(batches)
    return predictions_of(by_image, categories)

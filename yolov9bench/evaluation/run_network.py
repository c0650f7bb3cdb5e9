"""A network over a data set: by a backend, in full float32 unless another type was asked for by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
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
from yolov9bench.ops.float32 import float32_as
from yolov9bench.ops.kept_memory import give_back_free, kept_memory
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.choose_backend import choose_backend
from yolov9bench.predict.detect import detect_batch
from yolov9bench.predict.postprocess import Detections, counting
from yolov9bench.predict.predictions import Arrays, Predictions, predictions_of
from yolov9bench.records.contents import BackendSettings
from yolov9bench.zoo.backends import COMPILED, PLAIN, REDUCED, TF32, Backend
from yolov9bench.zoo.protocols import ULTRALYTICS_SQUARE, Protocol

GIVE_BACK_EVERY = 4  # batches; the pages are cleared again, which takes less than 1 % of the time

logger = logging.getLogger("yolov9bench")


def full_float32() -> AbstractContextManager[None]:
    """Keep CUDA from rounding float32 convolutions and products to TF32, its default for convolutions."""
    return float32_as("ieee")


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


def require_possible(settings: EvaluationSettings, protocol: Protocol, device: str) -> None:
    """SettingsError for a backend that the protocol or the device does not have.

    One network is compiled for one shape, by a compiler that is here; TF32 is a rounding of CUDA devices.
    """
    if settings.backend == TF32.name and not device.startswith("cuda"):
        raise SettingsError(f"backend {TF32.name} is for CUDA devices, not {device}: give another backend")
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
    batch that does not fit into a GPU's memory, and for rounding with which AP is another one.
    """
    protocol = batches.protocol
    with full_float32(), kept_memory() as keeps:
        with float32_as("tf32") if settings.backend == TF32.name else nullcontext():
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


def on_host(detections: Sequence[Detections]) -> list[Arrays]:
    """The Detections of some images as arrays; a GPU is waited for once, not for each image."""
    boxes, scores, labels = (torch.cat(parts).cpu().numpy() for parts in zip(*detections, strict=True))
    ends = np.cumsum([len(each.scores) for each in detections])[:-1]
    return list(zip(np.split(boxes, ends), np.split(scores, ends), np.split(labels, ends), strict=True))


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
        found = on_host([each for part in parts for each in part])
        for image, arrays in zip(batch.images, found, strict=True):
            by_image[image.id] = arrays
            batches.counts.images += 1
            batches.counts.detections += len(arrays[1])
        if number % GIVE_BACK_EVERY == 0:
            give_back_free()
    by_image = join_shares(by_image, batches)
    warn_of_images(batches)
    return predictions_of(by_image, categories)

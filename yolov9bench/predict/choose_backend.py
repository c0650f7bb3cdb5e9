"""The fastest backend of a network on this machine: measured once, and kept in the user's cache folder."""

from __future__ import annotations

import copy
import json
import logging
import os
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from yolov9bench.errors import StorageError
from yolov9bench.io.files import write_json
from yolov9bench.io.machine import device_name
from yolov9bench.nn.detector import Detector, Outputs
from yolov9bench.ops.distributed import current_ranks, value_of_main
from yolov9bench.ops.float32 import float32_as
from yolov9bench.zoo.backends import EXACT, PLAIN, TF32, Backend, find_backend

CACHE_VARIABLE = "YOLOV9BENCH_CACHE"  # names another folder than the user's own
FILE = "backends.json"
WORTH = 0.95  # a later candidate is taken if it needs less than this share of the seconds
ROUNDS = 2  # of which the faster counts, after one that does not count, since it prepares the convolutions

logger = logging.getLogger("yolov9bench")


def choose_backend(detector: Detector, name: str, image_size: int, device: str) -> Backend:
    """The backend of this name; for "auto" the fastest on this processor, and PLAIN on other devices.

    What is measured is kept for the same processor, threads, torch, network and image size, so that the same
    command gives the same bits from then on. Of several processes the first one chooses for all.
    SettingsError for an unknown name.
    """
    if name != "auto":
        return find_backend(name)
    if torch.device(device).type != "cpu":
        return PLAIN
    return find_backend(
        value_of_main(measured_choice(detector, image_size) if current_ranks().is_main else "")
    )


def apply_backend(detector: Detector, backend: Backend) -> nn.Module:
    """What computes a detector by a backend; its weights are laid out, rounded and compiled in place.

    Maps take their layout and type from the weights.
    """
    if backend.channels_last:
        detector.to(memory_format=torch.channels_last)
    if backend.is_compiled:
        detector.compile(dynamic=False)
    if backend.dtype == "float32":
        return detector
    return Tf32(detector) if backend is TF32 else Rounded(detector, getattr(torch, backend.dtype))


class Rounded(nn.Module):
    """A detector in another floating type, into which its inputs [B, 3, H, W] are rounded."""

    def __init__(self, detector: Detector, dtype: torch.dtype) -> None:
        super().__init__()
        self.detector, self.dtype = detector.to(dtype), dtype

    def forward(self, images: Tensor) -> Outputs:
        """As `Detector.forward`, its maps in the other type."""
        outputs: Outputs = self.detector(images.to(self.dtype))
        return outputs


class Tf32(nn.Module):
    """A detector whose float32 products and convolutions a CUDA device rounds to TF32; nothing around it."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Outputs:
        """As `Detector.forward`."""
        with float32_as("tf32"):
            outputs: Outputs = self.detector(images)
        return outputs


def measured_choice(detector: Detector, image_size: int) -> str:
    """The name of the backend that is kept for this case; measured and kept where there is none."""
    file = cache_folder() / FILE
    key, kept = describe_case(detector, image_size), read_choices(file)
    if key not in kept:
        kept[key] = fastest(detector, image_size).name
        keep_choices(file, kept)
        logger.info("%s computes fastest by backend %s here, kept in %s", detector.spec.name, kept[key], file)
    return kept[key]


def cache_folder() -> Path:
    """The folder for what is measured once a machine: $YOLOV9BENCH_CACHE, else ~/.cache/yolov9bench."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "yolov9bench"


def describe_case(detector: Detector, image_size: int) -> str:
    """What a choice depends on, as a sentence of facts."""
    weights = next(detector.parameters())
    return (
        f"{device_name('cpu')}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{detector.spec.name}, {detector.num_classes} classes, {weights.dtype}, {image_size} px"
    )


def read_choices(file: Path) -> dict[str, str]:
    """The names of the backends chosen so far; none of a file that is damaged, which is said."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): backends are measured again", file, error)
        return {}
    if not isinstance(content, dict) or not all(name in EXACT for name in map(str, content.values())):
        logger.warning("%s does not hold names of backends: they are measured again", file)
        return {}
    return content


def keep_choices(file: Path, choices: dict[str, str]) -> None:
    """Write the choices; where that is not possible the next run measures again, which is said."""
    try:
        write_json(file, choices)
    except (OSError, StorageError) as error:
        logger.warning("the choice of a backend is not kept: %s", error)


def fastest(detector: Detector, image_size: int) -> Backend:
    """The fastest backend on a few images of noise: eighteen of them on most machines.

    First the better layout, with one image at a time. Then four at a time, which are taken unless one is
    clearly faster: threads then wait for one another less often, which counts where other programs run too.
    Eight are tried where four are clearly faster than one, as with many cores.
    """
    last = copy.deepcopy(detector).to(memory_format=torch.channels_last)
    by_layout = {
        name: seconds_an_image(each, 1, image_size)
        for name, each in (("channels-last", last), ("contiguous", detector))
    }
    is_last = by_layout["contiguous"] >= WORTH * by_layout["channels-last"]
    layout, chosen = ("channels-last", last) if is_last else ("contiguous", detector)
    one, four = by_layout[layout], seconds_an_image(chosen, 4, image_size)
    if one < WORTH * four:
        return find_backend(f"{layout}-1")
    has_more = four < WORTH * one and seconds_an_image(chosen, 8, image_size) < WORTH * four
    return find_backend(f"{layout}-{8 if has_more else 4}")


@torch.inference_mode()
def seconds_an_image(detector: Detector, chunk: int, image_size: int) -> float:
    """Seconds of the fastest of a few forward passes on so many images of noise, an image."""
    weights = next(detector.parameters())
    noise = torch.rand(
        (chunk, 3, image_size, image_size), generator=torch.Generator().manual_seed(0), dtype=weights.dtype
    )
    detector(noise)
    taken = []
    for _ in range(ROUNDS):
        began = perf_counter()
        detector(noise)
        taken.append(perf_counter() - began)
    return min(taken) / chunk

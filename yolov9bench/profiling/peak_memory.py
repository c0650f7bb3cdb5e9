"""The most memory of a GPU while something runs, as torch and the driver count it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import torch

from yolov9bench.errors import SettingsError


@dataclass(frozen=True)
class Peak:
    """The most memory of a GPU, in bytes.

    `allocated_bytes` are in tensors and workspaces, `reserved_bytes` what torch's allocator had taken from
    the driver. `process_bytes` is what the driver counts for this process, its CUDA context included; None
    where nvidia-smi does not list it, as in most containers.
    """

    allocated_bytes: int
    reserved_bytes: int
    process_bytes: int | None


def measure_peak(run: Callable[[], object], device: str) -> Peak:
    """The most memory of a CUDA device while something runs; what is on it already counts.

    SettingsError for another device, which has no such count.
    """
    if torch.device(device).type != "cuda":
        raise SettingsError(f"device {device!r} does not count its memory: measure on cuda, or predict")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return Peak(
        torch.cuda.max_memory_allocated(device),
        torch.cuda.max_memory_reserved(device),
        process_bytes(device),
    )


def process_bytes(device: str) -> int | None:
    """What the driver counts for this process now on a CUDA device, in its context alone.

    torch keeps what it reserved, so that is its peak too.
    """
    gpu = str(torch.cuda.get_device_properties(device).uuid)
    query = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True)
    except OSError:
        return None
    for line in answer.stdout.splitlines():
        where, process, mebibytes = (word.strip() for word in line.split(","))
        if where.endswith(gpu) and process == str(os.getpid()) and mebibytes.isdigit():
            return int(mebibytes) * 2**20
    return None

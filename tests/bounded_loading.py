"""Load a checkpoint within bounds of time and memory and say what came of it: for hostile, damaged files."""

import faulthandler
import json
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from synthetic import foreign_class, foreign_tensors, narrowed

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import build
from yolov9bench.weights import identify, load, save
from yolov9bench.zoo.specs import SPECS

SECONDS = 5  # of this process's own time: more than is promised, since machines differ
FILE_TIMES = 3
PROCESS_BYTES = 256 << 20  # of address space beside, most of which is never touched
# What a file could make of a reader that obeys it.
DEEDS = (
    "ctypes.dlopen",
    "os.exec",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "shutil.rmtree",
    "socket.connect",
    "subprocess.Popen",
    "urllib.Request",
)


class EndlessError(BaseException):
    """Raised in a load that does not end; no handler of the library's may catch it."""


class Watch:
    """Counts deeds of this process while a file is loaded; a hook of Python's, which cannot be taken off."""

    def __init__(self) -> None:
        self.is_on = False
        self.deeds: list[str] = []
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python for everything that is done."""
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if self.is_on and (event in DEEDS or writes):
            self.deeds.append(event)


@dataclass(frozen=True)
class Outcome:
    """How a load ended: "loaded", "refused", or what went wrong; the sentence of a refusal."""

    word: str
    sentence: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether this is what is promised of every file."""
        return self.word in ("loaded", "refused")


def load_bounded(path: Path, watch: Watch, size: int | None = None) -> Outcome:
    """What comes of a file. Not sound: other errors, deeds, several lines, want of memory, no end.

    size: the bytes that count for the memory it may take, where a file has holes.
    """
    watch.deeds.clear()
    try:
        with within_time(), within_memory(path.stat().st_size if size is None else size):
            watch.is_on = True
            load(path)
    except CheckpointError as error:
        outcome = judge(path, error)
    except EndlessError:
        outcome = Outcome("no end")
    except Exception as error:
        outcome = Outcome(f"raises {type(error).__name__}", str(error))
    else:
        outcome = Outcome("loaded")
    finally:
        watch.is_on = False
    return Outcome(f"does {watch.deeds[0]}") if watch.deeds else outcome


def judge(path: Path, error: CheckpointError) -> Outcome:
    """A refusal, unless its sentence is none, or stands for memory that the file had no right to."""
    sentence = str(error)
    wordy = len(sentence) > 1000 or not sentence.isprintable() or "weights_only" in sentence
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "memory" in str(cause):
            return Outcome("wants memory", sentence)
        cause = cause.__cause__ or cause.__context__
    if wordy or path.stem not in sentence:
        return Outcome("bad sentence", sentence)
    return Outcome("refused", sentence)


@contextmanager
def within_time() -> Iterator[None]:
    """EndlessError after SECONDS of this process's time; where no handler can run, the end of the process."""

    def stop(_: int, __: FrameType | None) -> None:
        raise EndlessError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(40 * SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def within_memory(size: int) -> Iterator[None]:
    """Let this process grow by three times a file, and what it needs beside, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        allowed = pages * resource.getpagesize() + FILE_TIMES * size + PROCESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


SPEC = narrowed(SPECS["yolov8-n"], 4)
NAMES = ["cat", "dog", "bird"]


def narrow_candidates(patch: pytest.MonkeyPatch) -> None:
    """So that files of a narrow network load at once."""
    patch.setattr(identify, "CANDIDATES", {"ultralytics": (SPEC,), "mmyolo": (SPEC,)})


def write_sound_files(folder: Path) -> dict[str, Path]:
    """A sound file of each kind, of one narrow network of three classes, by the name of its kind."""
    detector = build(SPEC, classes=3)
    tensors = foreign_tensors(detector, "ultralytics")
    paths = {
        kind: folder / f"{kind}.pt" for kind in ("plain", "stream", "module", "own", "mmyolo", "tensors")
    }
    torch.save({"model": tensors, "names": NAMES, "epoch": 3}, paths["plain"])
    torch.save(dict(tensors), paths["stream"], _use_new_zipfile_serialization=False)
    with foreign_class("ultralytics.nn.tasks.DetectionModel") as make:
        torch.save({"model": make(tensors, names=NAMES)}, paths["module"])
    save(paths["own"], detector, dict(enumerate(NAMES)))
    meta = {"dataset_meta": {"classes": tuple(NAMES)}}
    torch.save({"state_dict": foreign_tensors(detector, "mmyolo"), "meta": meta}, paths["mmyolo"])
    write_safetensors(paths["tensors"], tensors)
    return paths


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The same in the safetensors format, as it is described: header length, header, numbers."""
    header, body = {}, b""
    for key, tensor in tensors.items():
        packed = tensor.flatten().view(torch.uint8).numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[key] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(packed)],
        }
        body += packed
    encoded = json.dumps({"__metadata__": {"names": json.dumps(NAMES)}, **header}).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)

"""A disk that is full from the n-th time on that Python opens, writes, syncs, renames or makes a folder."""

import builtins
import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WRITES = frozenset("wax")
RANDOM = re.compile(r"-[0-9a-f]{8}\b|(?<=-)[a-z0-9_]{8}$")  # in the names of fresh files and of records


class Disk:
    """Counts what needs space, below one folder, as (what, file name); from `full_from` on it fails."""

    def __init__(self, folder: Path, full_from: int | None = None) -> None:
        self.folder, self.full_from = folder, full_from
        self.asked: list[tuple[str, str]] = []

    def ask(self, what: str, path: Any) -> None:
        """ENOSPC if the disk is full by now."""
        try:
            name = os.fsdecode(os.fspath(path))
        except TypeError:  # a descriptor
            name = str(Path(f"/proc/self/fd/{path}").readlink())
        if not Path(name).absolute().is_relative_to(self.folder) or (what == "mkdir" and Path(name).exists()):
            return
        self.asked.append((what, RANDOM.sub("-", Path(name).name)))
        if self.full_from is not None and len(self.asked) > self.full_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    def sites(self, kinds: frozenset[str]) -> list[int]:
        """How often was asked before each question of these kinds was asked of a file for the first time."""
        first = {each: number for number, each in reversed(list(enumerate(self.asked)))}
        return sorted(number for (what, _), number in first.items() if what in kinds)


class _File(io.FileIO):
    disk: Disk

    def write(self, content: Any) -> int:
        self.disk.ask("write", self.name)
        return super().write(content)


@contextmanager
def full_disk(disk: Disk) -> Iterator[Disk]:
    """Everything under the disk's folder is counted, and fails, while the body runs."""
    opened, made, renamed, synced, low = io.open, os.mkdir, os.replace, os.fsync, os.open

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if not WRITES & set(mode) or isinstance(file, int):
            return opened(file, mode, buffering, *rest, **named)
        disk.ask("open", file)
        raw = _File(file, mode.replace("b", "").replace("t", ""))
        raw.disk = disk
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *rest, **named)

    def asking(what: str, act: Any) -> Any:
        def asked(*arguments: Any, **named: Any) -> Any:
            if what != "open" or arguments[1] & os.O_CREAT:
                disk.ask(what, arguments[-1] if what == "rename" else arguments[0])
            return act(*arguments, **named)

        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", open_file)
        patch.setattr(builtins, "open", open_file)
        patch.setattr(os, "open", asking("open", low))
        patch.setattr(os, "mkdir", asking("mkdir", made))
        patch.setattr(os, "replace", asking("rename", renamed))
        patch.setattr(os, "fsync", asking("sync", synced))
        yield disk

"""Two processes at once: folders that one of them holds, files that are being written, work done in turn."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest
from small_runs import Killed

from yolov9bench.errors import BusyError, StorageError
from yolov9bench.io import files, locks
from yolov9bench.io.files import atomic_path, remove_strays, write_text
from yolov9bench.io.locks import claim_folder, wait_for_turn

HOLDER = (
    "import sys, time; from pathlib import Path; from yolov9bench.io import {module}; "
    "held = {module}.{what}(Path(sys.argv[1])); path = held.__enter__(); {then}; print('ready', flush=True); "
    "time.sleep(60)"
)


def hold(module: str, what: str, path: Path, then: str = "pass") -> subprocess.Popen[str]:
    """A process that holds something of `path` until it is killed."""
    code = HOLDER.format(module=module, what=what, then=then)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_held_folder_names_its_holder_and_a_killed_one_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    folder = tmp_path / "run"
    began = time.time()
    holder = hold("locks", "claim_folder", folder)
    try:
        with pytest.raises(BusyError) as refusal, claim_folder(folder):
            pytest.fail("two hold it")
    finally:
        kill(holder)
    holder_text = rf"process {holder.pid} on {re.escape(socket.gethostname())} since (\S+ \S+)\+00:00"
    found = re.search(rf"run is in use by {holder_text}: wait until", str(refusal.value))
    assert found and abs(calendar_seconds(found[1]) - began) < 60
    with claim_folder(folder):
        assert json.loads((folder / "run.lock.json").read_text())["process"] == os.getpid()
    assert list(folder.iterdir()) == []  # but the folder was not made by this process


def calendar_seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S")) - time.timezone


def test_a_holder_that_ends_within_the_patience_is_waited_for(tmp_path: Path) -> None:
    holder = hold("locks", "claim_folder", tmp_path / "run")
    later = threading.Timer(0.5, holder.kill)
    later.start()
    with claim_folder(tmp_path / "run"):
        holder.communicate()
    later.join()
    assert holder.returncode == -signal.SIGKILL


@pytest.mark.parametrize("note", ["", "{}", "[1]", "\0"])
def test_a_holder_without_a_note_is_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with (tmp_path / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "run.lock.json").write_text(note)
        with pytest.raises(BusyError, match="is in use by another process: wait"), claim_folder(tmp_path):
            pytest.fail("two hold it")


def test_a_claimed_folder_goes_again_if_nothing_came_into_it(tmp_path: Path) -> None:
    with pytest.raises(Killed), claim_folder(tmp_path / "new"):
        raise Killed
    assert list(tmp_path.iterdir()) == []
    with claim_folder(tmp_path / "new"):
        (tmp_path / "new/log").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["log"]


# A folder goes away whenever nobody holds it, which is when a lock that is removed could become two.
TURNS = (
    "import sys, time; from pathlib import Path; from yolov9bench.io.locks import *\n"
    "for _ in range(20):\n"
    "    with {turn}, open(sys.argv[2], 'a') as log:\n"
    "        log.write('in '); log.flush(); time.sleep(0.001); log.write('out ')"
)


@pytest.mark.parametrize(
    "turn", ["wait_for_turn(Path(sys.argv[1]), 'counts')", "claim_folder(Path(sys.argv[1]))"]
)
def test_no_two_are_ever_inside(tmp_path: Path, turn: str) -> None:
    words = [sys.executable, "-c", TURNS.format(turn=turn), str(tmp_path / "new/it"), str(tmp_path / "log")]
    several = [subprocess.Popen(words) for _ in range(4)]
    assert [each.wait() for each in several] == [0] * 4
    assert (tmp_path / "log").read_text() == 80 * "in out "


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    below = tmp_path / "file/run"
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"run\.lock cannot be written"), claim_folder(below):
        pytest.fail("held")
    with pytest.raises(StorageError, match="run cannot be written"), wait_for_turn(below, "counts"):
        pytest.fail("held")


# Files that are being written, and what killed writers leave


def test_strays_are_what_no_process_writes_any_more(tmp_path: Path) -> None:
    writer = hold("files", "atomic_path", tmp_path / "table.md", "path.write_text('half')")
    others = [".table-0123456.fresh.md", ".table.md", "a-01234567.fresh.md", ".a-0123456g.fresh.md"]
    for other in others:
        (tmp_path / other).write_text("mine")
    try:
        (fresh,) = {path.name for path in tmp_path.iterdir()} - {*others}
        remove_strays(tmp_path)
        write_text(tmp_path / "table.md", "whole")
        assert (tmp_path / fresh).read_text() == "half"
    finally:
        kill(writer)
    write_text(tmp_path / "other.json", "{}")  # any next write into the folder
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "other.json", *others}
    assert (tmp_path / "table.md").read_text() == "whole"


def test_a_fresh_file_that_a_sweep_takes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its locking it looks like a stray."""
    whole, calls = filelock.lock_descriptor, []

    def slow(descriptor: int, blocking: bool) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:
            monkeypatch.setattr(files, "lock_descriptor", whole)
            remove_strays(tmp_path)
        return whole(descriptor, blocking=blocking)

    monkeypatch.setattr(files, "lock_descriptor", slow)
    write_text(tmp_path / "a.txt", "whole")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "whole"}


def test_without_locks_everything_is_written_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, blocking: bool) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files, "lock_descriptor", unsupported)
    stray = tmp_path / ".a-01234567.fresh.txt"
    stray.touch()
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole" and stray.exists()


def test_a_folder_that_became_read_only_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is the answer, not that the fresh file cannot be removed as well."""

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with (
        pytest.raises(StorageError, match=r"No space left on device\): make space"),
        atomic_path(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(Killed), atomic_path(tmp_path / "a"):
        raise Killed

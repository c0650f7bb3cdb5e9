"""All hostile checkpoints, by kind; as a script, a table of what comes of them.

    python tests/hostile_checkpoints.py

Times are this process's own. Memory is what a load takes at its peak, less three times the file's size.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from bounded_loading import FILE_TIMES, Watch, load_bounded, narrow_candidates
from hostile_calls import hidden_calls, obeyed_calls, ways_of_calling
from hostile_claims import claimed_members, claimed_numbers, endless_lengths, endless_walks
from hostile_contents import (
    beside_sound_weights,
    broken_archives,
    broken_streams,
    hostile_numbers,
    hostile_safetensors,
    hostile_text,
    wrong_facts,
)
from hostile_opcodes import Cases

KINDS: Mapping[str, Callable[[], Cases]] = {
    each.__name__: each
    for each in (
        obeyed_calls, ways_of_calling, hidden_calls, beside_sound_weights, claimed_numbers, claimed_members,
        endless_walks, endless_lengths, wrong_facts, hostile_text, hostile_numbers, broken_streams,
        broken_archives, hostile_safetensors,
    )
}  # fmt: skip


def memory(word: str) -> int:
    """This process's memory in bytes, now ("VmRSS") or at its peak ("VmHWM"), by Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{word}:")[1].split()[0]) * 1024


def describe(kind: str, folder: Path, watch: Watch) -> str:
    """What comes of the files of one kind, on a line, and every outcome that is not sound."""
    path, counts, unsound = folder / "file.pt", Counter[str](), []
    slowest, largest = 0.0, 0
    for name, content in KINDS[kind]():
        path.write_bytes(content)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before, begin = memory("VmRSS"), time.process_time()
        outcome = load_bounded(path, watch)
        slowest = max(slowest, time.process_time() - begin)
        largest = max(largest, memory("VmHWM") - before - FILE_TIMES * len(content))
        counts[outcome.word] += 1
        unsound += [] if outcome.is_sound else [f"  {name[:60]}: {outcome.word} {outcome.sentence[:200]}"]
    created = len(list(folder.iterdir())) - 1
    line = f"{kind}: {dict(counts)}, slowest {slowest:.2f} s, {largest >> 20} MB beyond, {created} files made"
    return "\n".join([line, *unsound])


def main() -> None:
    """Load every hostile file in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chdir(folder)
        narrow_candidates(patch)
        watch = Watch()
        for kind in KINDS:
            sys.stdout.write(describe(kind, Path(folder), watch) + "\n")
            sys.stdout.flush()
        os.chdir("/")


if __name__ == "__main__":
    main()

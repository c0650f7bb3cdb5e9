"""Garbage collection around imports, seen in processes of their own."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from yolov9bench.io.collection import imports_torch
{before}
with imports_torch():
    print(gc.isenabled())
    import torch
print(gc.isenabled(), gc.get_freeze_count() > 50_000)
class Knot: pass
knot = Knot()
knot.itself = knot
del knot
print(gc.collect() >= 1)
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", ["False", "True True", "True"]),
        ("import torch", ["True", "True False", "True"]),
        ("gc.disable()", ["False", "False True", "True"]),
    ],
)
def test_what_torch_makes_is_left_alone_and_nothing_else(before: str, expected: list[str]) -> None:
    program = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected

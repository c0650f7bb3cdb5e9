"""Ctrl-C at any moment of a command: one line on stderr and status 130, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

AT_IMPORT = (
    "import os, runpy, signal, sys\n"
    "class Impatient:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name == {moment!r}: os.kill(os.getpid(), signal.SIGINT)\n"
    "sys.meta_path.insert(0, Impatient())\n"
    "sys.argv = ['yolov9bench', *{words!r}]\n"
    "runpy.run_module('yolov9bench', run_name='__main__')"
)
AT_WORK = (
    "import os, signal, sys\n"
    "from yolov9bench.__main__ import main\n"
    "from yolov9bench.evaluation import evaluate\n"
    "evaluate.detect_batch = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
    "sys.argv = ['yolov9bench', *{words!r}]\n"
    "sys.exit(main())"
)


def interrupted(code: str) -> list[str]:
    """The lines on stderr of a process that sends SIGINT to itself."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("moment", ["yolov9bench.commands", "tyro", "torch", "torch.nn"])
def test_while_modules_are_imported(moment: str) -> None:
    code = AT_IMPORT.format(moment=moment, words=["measure", "yolov9-t", "--memory-only"])
    assert interrupted(code) == ["stopped by Ctrl-C"]


@pytest.mark.accuracy
@pytest.mark.slow(6)
def test_while_images_are_evaluated(tiny: Path, tiny_weights: Path) -> None:
    words = ["evaluate", "--checkpoint", str(tiny_weights), "--dataset", str(tiny), "--split", "val"]
    lines = interrupted(AT_WORK.format(words=[*words, "--protocol", "ultralytics", "--image-size", "64"]))
    assert lines[0].startswith("evaluating 6 images") and lines[-1] == "stopped by Ctrl-C"

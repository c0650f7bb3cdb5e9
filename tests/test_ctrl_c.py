"""Ctrl-C and SIGTERM at any moment of a command: one line on stderr and the shell's status, no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from yolov9bench.ops.stops import Terminated, find_stop, orderly_stops
from yolov9bench.weights.load import failed_write

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
    "from yolov9bench.evaluation import run_network\n"
    "run_network.detect_batch = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
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
    more = ["--protocol", "ultralytics", "--image-size", "64", "--backend", "plain"]
    lines = interrupted(AT_WORK.format(words=[*words, *more]))
    assert lines[0].startswith("evaluating 6 images") and lines[-1] == "stopped by Ctrl-C"


IN_A_COMMAND = (
    "import os, signal, sys\n"
    "from yolov9bench import __main__ as door\n"
    "def run(config):\n"
    "    {body}\n"
    "door.run = run\n"
    "sys.argv = ['yolov9bench', 'rows']\n"
    "door.start()"
)
# What takes an interrupt for its own: each ends as if it had come through.
BODIES = {
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", 143),
    "inside exec": ("exec('os.kill(os.getpid(), signal.SIGINT)')", 130),
    "another error": (
        "try: os.kill(os.getpid(), signal.SIGINT)\n    finally: raise RuntimeError('unexpected pos')",
        130,
    ),
    "taken for the user's mistake": (
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException as error: raise door.SettingsError('not installed') from error",
        130,
    ),
    "dropped": (
        "import time\n"
        "    class Held:\n"
        "        def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "    Held()\n"
        "    time.sleep(60)",
        130,
    ),
    "at the exit": (
        "import atexit\n"
        "    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)",
        143,
    ),
}


def with_folder(folder: Path) -> str:
    """The places that Python looks for modules in, and this one."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


@pytest.mark.parametrize("body", BODIES)
def test_whatever_takes_an_interrupt_for_its_own(tmp_path: Path, body: str) -> None:
    """Run by `python -m`, which gives an interrupt that has passed an `exec` another status."""
    code, status = BODIES[body]
    (tmp_path / "patched.py").write_text(IN_A_COMMAND.format(body=code))
    done = subprocess.run(
        [sys.executable, "-m", "patched"],
        env=os.environ | {"PYTHONPATH": with_folder(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = "stopped by SIGTERM\n" if status == 143 else "stopped by Ctrl-C\n"
    assert (done.returncode, done.stderr) == (status, line)


def test_ctrl_c_after_the_end_changes_nothing() -> None:
    code = "import atexit; atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); print('answer')"
    done = subprocess.run(
        [sys.executable, "-c", IN_A_COMMAND.format(body=code)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer\n", "")


def test_handlers_are_as_before_after_a_command() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(Terminated), orderly_stops():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook)


def test_a_stop_is_found_behind_what_took_its_place() -> None:
    error = RuntimeError("last")
    error.__context__ = ValueError("middle")
    assert find_stop(error) is None
    error.__context__.__context__ = Terminated()
    assert find_stop(error) == ("stopped by SIGTERM", 143)
    error.__context__.__context__ = error  # a circle
    assert find_stop(error) is None


def test_torchs_writer_gives_a_stop_back(tmp_path: Path) -> None:
    """It raises an error of its own at the end of a file that it could not write in full."""

    class Stopped:
        def write(self, content: bytes) -> int:
            raise KeyboardInterrupt

        def flush(self) -> None: ...

    with pytest.raises(BaseException) as refusal:
        torch.save({"a": torch.zeros(10)}, Stopped())  # type: ignore[arg-type]
    assert isinstance(failed_write(refusal.value), KeyboardInterrupt)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_output_that_has_no_space_is_a_sentence() -> None:
    words = [sys.executable, "-m", "yolov9bench", "rows"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        silent = subprocess.run([*words, "yolov9-q"], stderr=full)
    assert (done.returncode, silent.returncode) == (2, 2)
    assert done.stderr == (
        "the output cannot be written (No space left on device): make space and run it again.\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    words = [sys.executable, "-m", "yolov9bench", "rows", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 141)
    process.stderr.close()


BOUND = (
    "import sys\n"
    "from yolov9bench.ops.lifeline import run_bound\n"
    "from yolov9bench.ops.stops import orderly_stops\n"
    "with orderly_stops(): run_bound(sys.executable, ['sleeps', sys.argv[1]])"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_notebooks_process_ends_with_its_sweep(tmp_path: Path, number: signal.Signals) -> None:
    """By order where the sweep can give one, else within a second or two."""
    (tmp_path / "sleeps.py").write_text(
        "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()} {os.getsid(0)}'); time.sleep(60)"
    )
    path = with_folder(tmp_path)
    words = [sys.executable, "-c", BOUND, str(tmp_path / "pid")]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    child, session = map(int, (tmp_path / "pid").read_text().split())
    assert session == child != os.getsid(process.pid)
    process.send_signal(number)
    process.wait(20)
    assert number == signal.SIGKILL or not lives(child)
    while lives(child):
        assert time.monotonic() < until
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True

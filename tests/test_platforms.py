"""What must not depend on the system: start methods of processes, modules of one system alone, devices."""

import ast
import os
import signal
import subprocess
from pathlib import Path, PureWindowsPath

import pytest
import torch
from record_parts import EMPTY

from yolov9bench import records
from yolov9bench.data.coco import read_coco
from yolov9bench.data.image_files import find_image_files, is_plain
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Loading
from yolov9bench.errors import BusyError, SettingsError, require_writable
from yolov9bench.evaluation.evaluate import resolve_device
from yolov9bench.io import locks
from yolov9bench.io.names import name_fault
from yolov9bench.ops.stops import interrupts_held
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.predict.result_files import read_predictions, write_predictions
from yolov9bench.zoo.recipes import YOLOV9

PACKAGE = Path(__file__).parents[1] / "yolov9bench"
# Modules that Windows lacks: whoever imports the library there should get no further error than the first.
POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}


def test_no_module_of_one_system_is_imported() -> None:
    found = {
        (path.name, name.split(".")[0])
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    }
    assert ("locks.py", "filelock") in found
    assert not {each for each in found if each[1] in POSIX}


def test_workers_are_spawned_on_every_system(painted: Path) -> None:
    """Linux forks by default, which copies locks that other threads hold."""
    batches = TrainingBatches(read_coco(painted, "val"), YOLOV9, 2, seed=0, loading=Loading(workers=1))
    assert batches._loader.multiprocessing_context.get_start_method() == "spawn"


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_or_the_cpu_also_where_there_is_an_apple_gpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, expected: str
) -> None:
    """On mps nothing was ever compared, so that nobody gets it without asking, or at all."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == expected


# "Availability: Unix", or "not Windows", in Python's manual: of each module what code may be tempted to use.
NOT_ON_WINDOWS = {
    "os": """chown fork forkpty geteuid getgid getloadavg getpgid getuid killpg mkfifo nice openpty pathconf
        posix_fadvise posix_fallocate pread pwrite sched_getaffinity setsid statvfs sync sysconf uname wait
        waitid O_CLOEXEC O_DIRECTORY O_SYNC""",
    "signal": """SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIG_BLOCK SIG_SETMASK
        SIG_UNBLOCK alarm pause pthread_sigmask setitimer siginterrupt sigwait""",
    "time": "clock_getres clock_gettime pthread_getcpuclockid tzset",
    "socket": "AF_UNIX sethostname",
}
LACKING = {(module, name) for module, names in NOT_ON_WINDOWS.items() for name in names.split()}


def test_what_windows_lacks_is_asked_for_before_it_is_used() -> None:
    """A function with such a name also asks `hasattr` of its module, so that Windows has another way."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                used = names_used(function) & LACKING
                asked = {name[0] for name in used if f"hasattr({name[0]}, " in ast.unparse(function)}
                found |= {(path.name, *name) for name in used}
                assert {name[0] for name in used} <= asked, f"{path}: {function.name} uses {used}"
    assert {("errors.py", "os", "pathconf"), ("loading.py", "os", "sched_getaffinity")} <= found


def names_used(function: ast.FunctionDef) -> set[tuple[str, str]]:
    """module.name, as pairs."""
    return {
        (node.value.id, node.attr)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_without_what_windows_lacks_names_and_interrupts_are_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pathconf")
    monkeypatch.delattr(signal, "pthread_sigmask")
    require_writable("out", tmp_path / ("x" * 239))
    with pytest.raises(SettingsError, match="out has 'xxxxxxxxxxxxxxxxxxxx'… of more than 239 bytes in it"):
        require_writable("out", tmp_path / ("x" * 240))
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        raise KeyboardInterrupt


NAMES = """
    1.png a/1.png a/./1.png .hidden C:/x/1.png C:1.png c: //host/x/1.png /x/1.png .. a/../../1.png
    1.png:stream C:\\x\\1.png \\x\\1.png a\\..\\..\\1.png \\\\?\\C:\\x
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_plain_names_of_images_lie_in_their_folder_on_windows_too(name: str) -> None:
    place = PureWindowsPath("D:/data/val") / name
    is_inside = place.is_relative_to("D:/data/val") and ".." not in place.parts and ":" not in str(place)[2:]
    assert is_plain(name) == is_inside


def test_a_name_with_a_colon_is_found_where_there_is_such_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    (folder / "a:1.png").write_bytes(b"image")
    found, missing = find_image_files([tmp_path], folder, ["a:1.png", "C:/a:1.png", "C:/2.png"])
    assert found == {} and missing == ["C:/2.png", "a:1.png", "C:/a:1.png"]  # two names for one file
    assert find_image_files([tmp_path], folder, ["a:1.png"]) == ({"a:1.png": folder / "a:1.png"}, [])


def test_files_of_the_project_can_be_checked_out_on_every_system() -> None:
    """No device's name, no two names that differ in case alone, and room in 260 characters for a folder."""
    root = PACKAGE.parent
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    paths = [Path(name) for name in listed.stdout.split("\0") if name]
    assert len(paths) > 300
    assert not [path for path in paths if any(name_fault(part) for part in path.parts)]
    assert len({str(path).casefold() for path in paths}) == len(paths)
    assert max(len(str(path)) for path in paths) < 160


def test_results_lie_below_paths_of_more_than_260_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    deep = tmp_path.joinpath(*["of eighty characters ".ljust(79, "x")] * 5)
    path = records.write(EMPTY, deep)
    assert len(str(path)) > 400 and records.select(deep) == [EMPTY]
    write_predictions(deep / "runs/found.npz", predictions_from_rows([]))
    assert len(read_predictions(deep / "runs/found.npz")) == 0
    taken = locks.claim_folder(deep / "runs")
    with taken, pytest.raises(BusyError, match="is in use by process"), locks.claim_folder(deep / "runs"):
        pass

"""Git checkouts in every state, the facts of this machine, and paths that must not get out."""

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision

from yolov9bench.errors import RecordError
from yolov9bench.io import machine, provenance
from yolov9bench.io.machine import describe_environment
from yolov9bench.io.provenance import Code, code, command, reduce_paths

README = "# Bench\n\n<!-- table -->\n| AP |\n<!-- /table -->\n\nMore text.\n"


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout with a module, a result and a README with a generated block."""
    for name, text in {
        "package/module.py": "x = 1\n",
        "results/table.csv": "AP\n",
        "README.md": README,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin.")
    return tmp_path


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test asks again."""
    code.cache_clear()
    yield
    code.cache_clear()


def touch(root: Path) -> None:
    os.utime(root / "package/module.py", (1, 1))


def add_untracked(root: Path) -> None:
    (root / "package/new.py").write_text("y = 2\n")


def change_result(root: Path) -> None:
    (root / "results/table.csv").write_text("AP50\n")
    (root / "results/more.csv").write_text("AP\n")
    git(root, "add", "results/more.csv")


def change_table(root: Path) -> None:
    (root / "README.md").write_text(README.replace("| AP |", "| AP50 |\n| .5 |"))


def change_table_ends(root: Path) -> None:
    (root / "README.md").write_bytes(README.replace("| AP |", "| AP50 |").replace("\n", "\r\n").encode())


@pytest.mark.parametrize("change", [touch, add_untracked, change_result, change_table, change_table_ends])
def test_what_leaves_a_checkout_clean(change: Callable[[Path], None], checkout: Path) -> None:
    change(checkout)
    assert code(checkout).dirty is False


def edit(root: Path) -> None:
    (root / "package/module.py").write_text("x = 2\n")


def stage(root: Path) -> None:
    edit(root)
    git(root, "add", ".")


def stage_new(root: Path) -> None:
    add_untracked(root)
    git(root, "add", "package/new.py")


def remove(root: Path) -> None:
    (root / "package/module.py").unlink()


def rename(root: Path) -> None:
    git(root, "mv", "package/module.py", "results/module.py")


def change_table_and_text(root: Path) -> None:
    (root / "README.md").write_text(README.replace("| AP |", "| AP50 |").replace("More", "Less"))


def change_table_and_code(root: Path) -> None:
    change_table(root)
    edit(root)


def drop_marker(root: Path) -> None:
    (root / "README.md").write_text(README.replace("<!-- /table -->", ""))


def remove_readme(root: Path) -> None:
    (root / "README.md").unlink()


def edit_near_results(root: Path) -> None:
    (root / "results_of_old").write_text("")
    git(root, "add", "results_of_old")


@pytest.mark.parametrize(
    "change",
    [
        edit,
        stage,
        stage_new,
        remove,
        rename,
        change_table_and_text,
        change_table_and_code,
        drop_marker,
        remove_readme,
        edit_near_results,
    ],
)
def test_what_makes_a_checkout_dirty(change: Callable[[Path], None], checkout: Path) -> None:
    change(checkout)
    assert code(checkout).dirty is True


def test_a_clean_checkout_names_its_commit(checkout: Path) -> None:
    assert code(checkout).commit == git(checkout, "rev-parse", "HEAD")
    assert code(checkout).dirty is False


def test_a_second_worktree_counts_as_a_checkout(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", "beside")
    assert code(checkout / "beside").dirty is False
    edit(checkout / "beside")
    code.cache_clear()
    assert (code(checkout / "beside").dirty, code(checkout).dirty) == (True, False)


def test_the_state_is_read_once(checkout: Path) -> None:
    before = code(checkout)
    edit(checkout)
    git(checkout, "commit", "--quiet", "--all", "--message", "Go on.")
    assert code(checkout) is before


def test_the_environment_of_a_git_hook_does_not_mislead(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    git(elsewhere, "init", "--quiet")
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    assert code(checkout) == Code(commit, False, code(checkout).version)


def test_outside_git_the_installed_version_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DISTRIBUTION", "pytest")
    assert code(tmp_path) == Code(None, None, pytest.__version__)


def test_neither_git_nor_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DISTRIBUTION", "yolov9bench-of-nobody")
    with pytest.raises(RecordError, match="neither installed nor in a git checkout"):
        code(tmp_path)


def test_a_checkout_without_a_commit_is_named(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(RecordError, match=r"^git diff fails in [^\n]*repair the checkout\.$"):
        code(tmp_path)


def test_a_checkout_without_git_is_no_installed_version(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(RecordError, match="install git"):
        code(checkout)


@pytest.fixture
def on_cpu(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(provenance, "code", lambda: Code("0" * 40, False, "0.1.0"))
    return asdict(describe_environment("cpu"))


def test_the_environment_of_a_run_on_the_processor(on_cpu: dict[str, Any]) -> None:
    versions = on_cpu["versions"]
    assert (on_cpu["commit"], on_cpu["dirty"], versions["yolov9bench"]) == ("0" * 40, False, "0.1.0")
    assert versions["python"] == sys.version.split()[0]
    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == np.__version__
    assert torchvision.__version__.startswith(versions["torchvision"])
    # OpenCV's wheels add a fourth number to cv2's own three.
    assert versions["opencv"].startswith(cv2.__version__)
    assert {name: versions[name] for name in ("hotcoco", "pycocotools")} == {
        name: metadata.version(name) for name in ("hotcoco", "pycocotools")
    }
    assert on_cpu["platform"].split() == [platform.system(), platform.machine()]
    assert (on_cpu["device"], on_cpu["cuda"]) == ("cpu", None)
    assert on_cpu["device_name"]
    assert on_cpu["threads"] == torch.get_num_threads()


def test_the_environment_is_plain_data_and_tells_no_names(on_cpu: dict[str, Any]) -> None:
    text = json.dumps(on_cpu, allow_nan=False)
    assert json.loads(text) == on_cpu
    assert not {socket.gethostname(), getpass.getuser()} & set(text.replace('"', " ").split())
    assert str(Path.home()) not in text
    assert reduce_paths(on_cpu) == on_cpu


def test_the_processor_is_named_as_the_system_names_it(on_cpu: dict[str, Any]) -> None:
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        pytest.skip("no /proc/cpuinfo on this system")
    assert f": {on_cpu['device_name']}\n" in facts.read_text()


@pytest.mark.parametrize(
    ("statement", "processor", "cuda"),
    [
        ("torch.set_float32_matmul_precision('medium')", ["bf16", "ieee"], ["tf32", "tf32"]),
        ("torch.backends.cudnn.allow_tf32 = False", ["ieee", "ieee"], ["ieee", "ieee"]),
        ("torch.backends.fp32_precision = 'tf32'", ["tf32", "tf32"], ["tf32", "tf32"]),
    ],
)
def test_lowered_float32_is_told(statement: str, processor: list[str], cuda: list[str]) -> None:
    """In a process of its own: PyTorch's old and new switches cannot both be used in one."""
    script = f"import torch\n{statement}\nfrom yolov9bench.io.machine import _float32\n"
    script += "print(*_float32(False).values(), *_float32(True).values())"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (shown[:2], shown[2:]) == (processor, cuda)


def test_the_environment_of_a_run_on_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a pretended GPU, its driver told by a pretended nvidia-smi."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\n[ "$*" = "--query-gpu=driver_version --format=csv,noheader" ] && echo 550.54.15\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    found = asdict(describe_environment("cuda:1"))
    assert (found["device"], found["device_name"]) == ("cuda:1", "GPU of cuda:1")
    assert found["cuda"] == {"driver": "550.54.15", "runtime": "12.8", "cudnn": 91002}


def test_a_driver_that_nobody_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._driver() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho no devices\nexit 6\n")
    tool.chmod(0o755)
    assert machine._driver() is None


@pytest.mark.parametrize(
    ("text", "reduced"),
    [
        ("/home/somebody/yolov8n.pt", "yolov8n.pt"),
        ("/home/some body/my weights.pt", "my weights.pt"),
        ("/data/coco/", "coco"),
        ("/", "/"),
        ("--f=/run/user/some body/kernel.json", "--f=kernel.json"),
        ("dataset=/data/coco", "dataset=coco"),
        ("weights=['/a/b.pt', '/c/d.pt']", "weights=['b.pt', 'd.pt']"),
        ("read /home/somebody/x.csv, then go on", "read x.csv, then go on"),
        ("file:///home/somebody/x.pt", "x.pt"),
        (r"C:\Users\somebody\x.pt", "x.pt"),
        (r"found C:\Users\somebody\x.pt there", "found x.pt there"),
        ("results/records/custom", "results/records/custom"),
        ("yolov8-n", "yolov8-n"),
        ("https://example.org/a/b.pt", "https://example.org/a/b.pt"),
        ("12 km/h, and/or 5 /s", "12 km/h, and/or 5 /s"),
        ("<b>bold</b> a/b", "<b>bold</b> a/b"),
        ("score=0.5", "score=0.5"),
    ],
)
def test_absolute_paths_become_file_names(text: str, reduced: str) -> None:
    assert reduce_paths(text) == reduced


def test_paths_inside_settings_are_reduced() -> None:
    settings = {
        "weights": PurePosixPath("/home/somebody/x.pt"),
        "data": PureWindowsPath(r"C:\data\coco"),
        "parts": [{"file": "/a/b"}, 3],
        "sizes": (640, None, 0.5, True),
        "relative": Path("a/b"),
    }
    assert reduce_paths(settings) == {
        "weights": "x.pt",
        "data": "coco",
        "parts": [{"file": "b"}, 3],
        "sizes": [640, None, 0.5, True],
        "relative": str(Path("a/b")),
    }


def test_the_command_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/home/somebody/bin/yolov9bench", "verify", "--data=/data/coco", "results"]
    )
    assert command() == ["yolov9bench", "verify", "--data=coco", "results"]


def test_the_block_of_parity_is_generated_too(checkout: Path) -> None:
    block = "<!-- parity -->\n| px |\n<!-- /parity -->\n"
    (checkout / "README.md").write_text(README + block)
    git(checkout, "commit", "--quiet", "--all", "--message", "Parity.")
    (checkout / "README.md").write_text(README.replace("AP", "AP50") + block.replace("px", "points"))
    assert code(checkout).dirty is False
    code.cache_clear()
    (checkout / "README.md").write_text(README + block.replace("/parity", "/table"))
    assert code(checkout).dirty is True


def test_two_tables_leave_the_text_between_them_in_place(checkout: Path) -> None:
    """Each block ends at its own mark: what stands between two of them is no generated text."""
    two = README + "Between.\n\n" + README
    (checkout / "README.md").write_text(two)
    git(checkout, "commit", "--quiet", "--all", "--message", "Two.")
    code.cache_clear()
    assert code(checkout).dirty is False
    (checkout / "README.md").write_text(two.replace("Between.", "Changed."))
    code.cache_clear()
    assert code(checkout).dirty is True


@pytest.mark.parametrize("dirty", [None, False, True])
def test_an_unknown_state_is_not_called_clean(monkeypatch: pytest.MonkeyPatch, dirty: bool | None) -> None:
    """Outside git nobody knows whether files differ: None, which fills no cell of the table."""
    monkeypatch.setattr(provenance, "code", lambda: Code(None, dirty, "0.1.0"))
    assert describe_environment("cpu").dirty is dirty


@pytest.mark.parametrize(
    ("text", "reduced"),
    [
        (r"C:\Users\some body\my weights.pt", "my weights.pt"),
        (r"\\server\share\some folder\x.pt", "x.pt"),
        (r"weights=D:\some body\x y.pt", "weights=x y.pt"),
    ],
)
def test_a_windows_path_is_reduced_whole(text: str, reduced: str) -> None:
    """Blanks included, on any system: the folder is a user's name."""
    assert reduce_paths(text) == reduced


def test_the_threads_of_this_process_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(provenance, "code", lambda: Code("0" * 40, False, "0.1.0"))
    assert describe_environment("cpu").threads == 7


def test_of_several_gpus_one_driver_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """nvidia-smi answers a line a GPU."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho ' 550.54.15'\necho 550.54.15\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine._driver() == "550.54.15"


def test_each_device_is_told_by_its_own_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's "none" says that nothing was lowered, which is full float32."""

    def switches(product: str, convolution: str) -> SimpleNamespace:
        parts = (SimpleNamespace(fp32_precision=each) for each in (product, convolution))
        return SimpleNamespace(**dict(zip(("matmul", "conv"), parts, strict=True)))

    stand_in = SimpleNamespace(
        mkldnn=switches("none", "bf16"), cuda=switches("tf32", ""), cudnn=switches("", "none")
    )
    monkeypatch.setattr(torch, "backends", stand_in)
    assert machine._float32(False) == {"matmul": "ieee", "convolution": "bf16"}
    assert machine._float32(True) == {"matmul": "tf32", "convolution": "ieee"}

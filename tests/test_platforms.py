"""What must not depend on the system: start methods of processes, modules of one system alone, devices."""

import ast
from pathlib import Path

import pytest
import torch

from yolov9bench.data.coco import read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Loading
from yolov9bench.evaluation.evaluate import resolve_device
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

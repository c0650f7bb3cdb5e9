"""Fixtures for every test: the shared material, and the account of how many tests it served."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolov9bench.nn import build
from yolov9bench.nn.head import last_bias
from yolov9bench.weights import save
from yolov9bench.zoo import SPECS

NEEDING_SHARED = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of goldens, images and weights: unset, a test skips; set, a gap is an error."""
    place = os.environ.get("YOLOV9BENCH_SHARED")
    if not place:
        pytest.skip("YOLOV9BENCH_SHARED is not set: no shared goldens, images and weights")
    folder = Path(place)
    if not folder.is_dir():
        raise FileNotFoundError(f"YOLOV9BENCH_SHARED is set to {place}, which is no folder")
    return folder


def pytest_collection_finish(session: pytest.Session) -> None:
    """Notes which of the chosen tests need the shared material, directly or through another fixture."""
    session.config.stash[NEEDING_SHARED] = {
        item.nodeid for item in session.items if "shared" in getattr(item, "fixturenames", ())
    }


def shared_tests(config: pytest.Config) -> tuple[int, int]:
    """How many of the tests that need the shared material ran, and how many skipped."""
    needing = config.stash.get(NEEDING_SHARED, set())
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return 0, 0
    skipped = needing & {report.nodeid for report in reporter.stats.get("skipped", [])}
    outcomes = ("passed", "failed", "error", "xfailed", "xpassed")
    ran = needing & {report.nodeid for outcome in outcomes for report in reporter.stats.get(outcome, [])}
    return len(ran - skipped), len(skipped)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With the shared material at hand nothing that needs it may skip: otherwise the run fails."""
    skipped = shared_tests(session.config)[1]
    if os.environ.get("YOLOV9BENCH_SHARED") and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line that .ci/run and a reader look for."""
    ran, skipped = shared_tests(config)
    terminalreporter.write_line(f"shared material: {ran} tests ran, {skipped} skipped")
    if os.environ.get("YOLOV9BENCH_SHARED") and skipped:
        terminalreporter.write_line("FAILED: YOLOV9BENCH_SHARED is set, so none of them may skip (see -rs)")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A COCO-format folder of six painted pictures of several shapes, two classes, split `val`."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    (tmp_path / "tiny/val").mkdir(parents=True)
    for number in range(1, 7):
        height, width = 40 + 8 * number, 96 - 6 * number
        pixels = generator.integers(90, 130, (height, width, 3), dtype=np.uint8)
        left, top, side = 4 * number, 3 * number, 20
        category = 1 + number % 2
        pixels[top : top + side, left : left + side] = (0, 0, 255) if category == 1 else (255, 0, 0)
        name = f"{number:06d}.png"
        cv2.imwrite(str(tmp_path / "tiny/val" / name), pixels)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        box = {"bbox": [left, top, side, side], "area": side * side, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": category, **box})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "tiny/annotations").mkdir()
    (tmp_path / "tiny/annotations/instances_val.json").write_text(json.dumps(content))
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained YOLOv9-t for the two classes of `tiny`, sure enough of itself to give detections.

    Its normalisation has seen noise, without which the signal dies out and every score is the same.
    """
    detector = build(SPECS["yolov9-t-80"], classes=2)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees, not a running average
    with torch.no_grad():
        detector(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        for branch in detector.main.head.classes:
            last_bias(branch).fill_(-2.0)
    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    save(path, detector, {0: "red", 1: "blue"}, row="yolov9-t")
    return path

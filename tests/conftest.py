"""Fixtures for every test, above all the shared material; the order in which tests begin."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import accounting
import cv2
import numpy as np
import pytest
import torch

from yolov9bench.nn import build
from yolov9bench.nn.head import last_bias
from yolov9bench.ops.images import read_image
from yolov9bench.weights import save
from yolov9bench.zoo.specs import Head, yolov8

pytest_plugins = ["comparisons"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of goldens, images and weights: unset, a test skips; set, a gap is an error."""
    place = os.environ.get("YOLOV9BENCH_SHARED")
    if not place:
        pytest.skip("YOLOV9BENCH_SHARED is not set: no shared goldens, images and weights")
    folder = Path(place)
    if not folder.is_dir():
        raise FileNotFoundError(f"YOLOV9BENCH_SHARED is set to {place}, which is not a folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of its own for what is measured once a machine, in this process and in those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOV9BENCH_CACHE", str(folder))
        yield folder


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(accounting)


# The largest networks in the tests that run or trace them: minutes in all, so they are in `make accuracy`.
LARGE = re.compile(r"yolov9-?[ecm]|gelan-[ecm]|yolov8-?[xlm]|mtl_v9-[cm]")
LONG_ON_LARGE = {
    "test_boxes_and_scores",
    "test_raw_maps",
    "test_folded_outputs",
    "test_the_auxiliary_branch_is_no_part_of_the_main_one",
    "test_official_figures",
    "test_ultralytics_figures",
    "test_keys_and_shapes_are_the_references",
    "test_the_forward_pass_is_that_of_cuda",
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give the mark of the second lane to the largest networks."""
    name, _, case = item.name.partition("[")
    if name in LONG_ON_LARGE and LARGE.search(case):
        item.add_marker(pytest.mark.accuracy)


@pytest.hookimpl(trylast=True)  # after pytest has brought together what shares a parametrised fixture
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first, so that no worker ends with one while others wait; else the order stays."""

    def seconds(item: pytest.Item) -> float:
        mark = item.get_closest_marker("slow")
        return 0.0 if mark is None else float(*mark.args or (5,))

    items.sort(key=seconds, reverse=True)


@pytest.fixture
def tiny(painted: Path, tmp_path: Path) -> Path:
    """A copy of `painted` that a test may change."""
    return shutil.copytree(painted, tmp_path / "tiny")


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-format folder of six painted images of several shapes, two classes, split `val`; read-only."""
    folder = tmp_path_factory.mktemp("painted") / "tiny"
    generator = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "val").mkdir(parents=True)
    for number in range(1, 7):
        height, width = 40 + 8 * number, 96 - 6 * number
        pixels = generator.integers(90, 130, (height, width, 3), dtype=np.uint8)
        left, top, side = 4 * number, 3 * number, 20
        category = 1 + number % 2
        pixels[top : top + side, left : left + side] = (0, 0, 255) if category == 1 else (255, 0, 0)
        name = f"{number:06d}.png"
        cv2.imwrite(str(folder / "val" / name), pixels)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        box = {"bbox": [left, top, side, side], "area": side * side, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": category, **box})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def tiny_weights(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained small network for the two classes of `tiny`, sure enough of itself to give detections.

    It is a file of the row yolov9-t. Its normalisation has seen noise, without which the signal dies out and
    every score is the same. The classes are scaled by their logits on the images: scores of exactly 1 would
    tie, and rounding choose.
    """
    detector = build(yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16)), classes=2)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees, not a running average
    images = [cv2.resize(read_image(path), (64, 64)) for path in sorted(painted.glob("val/*"))]
    inputs = torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        detector(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
        levels = detector.eval()(inputs).main
        for branch, level in zip(detector.main.head.classes, levels, strict=True):
            *_, last = branch.children()
            assert isinstance(last, torch.nn.Conv2d)
            last.weight.div_(level.class_logits.std())
            last_bias(branch).fill_(-2.0)
    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    save(path, detector, {0: "red", 1: "blue"}, row="yolov9-t")
    return path


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures in the report, written as any other: what takes the time is drawing them."""
    from matplotlib.figure import Figure

    from yolov9bench.plots import checks, performance, structure

    for module, name in [
        (checks, "plot_checks"),
        (performance, "plot_performance"),
        (performance, "plot_memory"),
        (structure, "plot_structures"),
    ]:
        monkeypatch.setattr(module, name, lambda data: Figure(figsize=(1, 1)))

"""The package as a Python user meets it: names, signatures, short reprs, predict on images of any kind."""

import inspect
import json
import pydoc
import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import yolov9bench as package
from yolov9bench import inference
from yolov9bench.config import project_root
from yolov9bench.data.coco import read_coco
from yolov9bench.errors import BenchError, CheckpointError, DatasetError, SettingsError
from yolov9bench.ops.images import read_image
from yolov9bench.plots.predicted_image import PredictedImage
from yolov9bench.weights import Checkpoint

API: Any = package  # its modules are functions too, which types cannot say
FOUND = PredictedImage(
    "street.png",
    None,
    np.full((60, 100, 3), 90, np.uint8),
    (60, 100),
    np.array([[10, 20, 40, 50], [0, 0, 30.0004, 20]], np.float32),
    np.array([0.9, 0.3], np.float32),
    np.array([1, 0]),
    {0: "red", 1: "blue"},
)


def test_the_names_are_listed_and_import_no_torch() -> None:
    code = (
        "import sys, yolov9bench\n"
        "assert {'predict', 'load', 'evaluate', 'train', 'reproduce', 'verify'} <= set(dir(yolov9bench))\n"
        "assert yolov9bench.__version__ and 'torch' not in sys.modules\n"
        "from yolov9bench.predict import predictions\n"
        "assert callable(yolov9bench.predict) and 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["predict", "train", "reproduce", "verify"])
def test_a_module_that_is_a_function_has_its_signature_and_stays_a_module(name: str) -> None:
    module: Any = getattr(API, name)
    function = {"predict": inference.predict, "train": API.train_row}.get(name)
    function = function or getattr(module, name)
    assert inspect.signature(module) == inspect.signature(function)
    assert inspect.ismodule(module)
    text = f"{name}{inspect.signature(function)}\n\n{inspect.getdoc(function)}"
    assert inspect.getdoc(module) == text  # what Jupyter's question mark shows
    assert text.splitlines()[0] in pydoc.plain(pydoc.render_doc(module))


def test_calling_the_module_calls_the_function(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'yolov8-n'"):
        API.train("yolov8-nn", "demo", tmp_path)
    with pytest.raises(SettingsError, match="no parameter 'sise'; did you mean 'size'"):
        API.reproduce(sise="m")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predikt'"):
        API.predikt  # noqa: B018


def test_a_prediction_is_short_in_words() -> None:
    assert repr(FOUND) == "2 detections on street.png (100x60): 1 blue .90, 1 red .30"
    assert len(FOUND) == 2 and FOUND.names == ["blue", "red"]


def test_a_prediction_of_many_classes_shows_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([3, 1, 3, 0, 2, 4, 5, 6])
    boxes, scores = np.zeros((8, 4), np.float32), np.linspace(1, 0.3, 8, dtype=np.float32)
    many = PredictedImage("x.png", None, None, (9, 8), boxes, scores, labels, dict(enumerate("abcdefg")))
    shown = "2 d 1.00, 1 b .90, 1 a .70, 1 c .60, 1 e .50, and 2 classes more"
    assert repr(many) == f"8 detections on x.png (8x9): {shown}"
    none = replace(many, boxes_xyxy=boxes[:0], scores=scores[:0], labels=labels[:0])
    assert repr(none) == "0 detections on x.png (8x9)"


def test_coco_results_by_hand() -> None:
    first, second = FOUND.to_coco(7)
    assert first == {"image_id": 7, "category_id": 2, "bbox": [10.0, 20.0, 30.0, 30.0], "score": 0.9}
    assert second == {"image_id": 7, "category_id": 1, "bbox": [0.0, 0.0, 30.0, 20.0], "score": 0.3}
    assert [row["category_id"] for row in FOUND.to_coco(7, [18, 44])] == [44, 18]


def test_coco_classes_have_their_own_numbers() -> None:
    names = {label: f"class {label}" for label in range(80)}
    last = PredictedImage("x", None, None, (9, 9), FOUND.boxes_xyxy, FOUND.scores, np.array([79, 11]), names)
    assert [row["category_id"] for row in last.to_coco(1)] == [90, 13]  # toothbrush and stop sign


def test_the_plot_is_the_image_with_boxes_at_their_pixels(tmp_path: Path) -> None:
    FOUND.plot().savefig(tmp_path / "drawn.png")
    drawn = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).astype(int)
    assert drawn.shape[:2] == (180, 300)  # three inches wide at least
    colourful = np.ptp(drawn, axis=2) > 60
    inside = colourful[155:163, 200:290]  # right of both boxes
    edge = colourful[148:152, 33:118]  # the lower edge of the first box, at 50 of 60 pixels
    assert not inside.any() and edge.any(axis=0).all()


def test_jupyter_shows_the_image_and_labels_grow_with_it() -> None:
    large = replace(FOUND, pixels=np.full((600, 2000, 3), 90, np.uint8), size=(600, 2000))
    large = replace(large, boxes_xyxy=np.array([[100, 100, 900, 500]] * 2, np.float32))
    shown = np.asarray(Image.open(BytesIO(large._repr_jpeg_()))).astype(int)
    assert shown.shape == (600, 2000, 3)
    label = (np.ptp(shown, axis=2) > 60)[110:190, 110:160].any(axis=1)  # below the box's upper edge, at 100
    assert label.sum() > 10  # at 100 pixels to the inch it would end at 114


def test_a_detector_without_names_has_the_same_categories_whatever_it_finds(
    detector: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = replace(detector, names=None)
    grey = np.full((40, 60, 3), 128, np.uint8)
    found = API.predict(nameless, grey, 0.0, protocol="ultralytics", image_size=64)
    assert found.class_names == {0: "class 0", 1: "class 1"} and len(found)


@pytest.fixture
def detector(tiny_weights: Path) -> Checkpoint:
    loaded: Checkpoint = API.load(tiny_weights)
    return loaded


def same(one: PredictedImage, other: PredictedImage) -> None:
    """To rounding, which may also swap equal scores, since images of one shape go through together."""
    for name, tolerance in (("boxes_xyxy", 0.01), ("scores", 1e-4), ("labels", 0)):
        first, second = (getattr(each, name)[in_order(each)] for each in (one, other))
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


def in_order(found: PredictedImage) -> Any:
    """By class and place, to a tenth of a pixel."""
    return np.lexsort((*found.boxes_xyxy.round(1).T, found.labels))

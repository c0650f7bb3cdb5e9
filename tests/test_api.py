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


def test_files_folders_arrays_and_pil_images_give_the_same(
    detector: Checkpoint, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"score_threshold": 0.001, "protocol": "ultralytics", "image_size": 64}
    files = sorted((tiny / "val").glob("*.png"))
    alone = [API.predict(detector, file, **settings) for file in files]
    assert all(len(each) for each in alone)
    pil_images = [Image.fromarray(read_image(file)[:, :, ::-1]) for file in files]
    ways = [tiny / "val", [*files], [np.asarray(each) for each in pil_images], pil_images]
    for way in ways:
        together = API.predict(detector, way, batch_size=4, **settings)
        assert len(together) == len(files) == 6
        for one, other in zip(alone, together, strict=True):
            same(one, other)
    assert alone[0].path == files[0] and isinstance(alone[0], PredictedImage)


def test_a_single_array_gives_a_single_answer(detector: Checkpoint) -> None:
    grey = np.full((40, 60), 128, np.uint8)
    found = API.predict(detector, grey, protocol="ultralytics", image_size=64)
    assert isinstance(found, PredictedImage) and found.size == (40, 60)


@pytest.mark.parametrize(
    ("images", "error", "sentence"),
    [
        ("nowhere.jpg", DatasetError, "image nowhere.jpg does not exist: check the path"),
        (3, SettingsError, "images holds a int: give files, folders, or arrays"),
        (np.zeros((4, 4, 3)), SettingsError, r"array of float64 \[4, 4, 3\]: give uint8"),
        (np.zeros((4, 4, 4), np.uint8), SettingsError, r"array of uint8 \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), SettingsError, r"array of uint8 \[0, 4, 3\]"),
    ],
)
def test_what_is_no_image_is_refused(
    detector: Checkpoint, images: Any, error: type[BenchError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        API.predict(detector, images, protocol="ultralytics")


def test_an_empty_folder_is_refused(detector: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no image \(.bmp"):
        API.predict(detector, tmp_path, protocol="ultralytics")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"batch_size": 2.5}, "batch_size is 2.5, a float: give int"),
        ({"score_threshold": "high"}, "score_threshold is 'high', a str: give float"),
        ({"checkpoint": None}, "checkpoint is None, a NoneType: give str"),
        ({"protocol": "yolov8"}, "its authors validate by ultralytics"),
        ({"image_size": 100}, "take 96 or 128"),
        ({"device": 0}, "a GPU is called cuda:0"),
    ],
)
def test_settings_are_checked_before_anything_is_read(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        API.predict(**{"checkpoint": "yolov9-m", "images": np.zeros((9, 9, 3), np.uint8)} | given)


def test_categories_that_are_too_few_are_refused() -> None:
    with pytest.raises(SettingsError, match="category_ids has 1 entry for a detector of 2 classes"):
        FOUND.to_coco(1, [18])


def test_a_score_threshold_is_a_fraction(detector: Checkpoint) -> None:
    with pytest.raises(SettingsError, match="score_threshold is 25: give a number from 0 to 1"):
        API.predict(detector, np.zeros((9, 9, 3), np.uint8), score_threshold=25)


def test_load_takes_row_ids_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("yolov9bench.weights.fetch.fetch_checkpoint", lambda *given: asked.append(given))
    API.load("YOLOv9-M")
    API.load("yolov8-n", training=True, data_dir="kept")
    assert [(row.id, folder, training) for row, folder, training in asked] == [
        ("yolov9-m", project_root() / "data", False),
        ("yolov8-n", Path("kept"), True),
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("yolov9-mm", "no checkpoint or row 'yolov9-mm'; did you mean 'yolov9-m'"),
        ("weights/yolov9-m", "checkpoint weights/yolov9-m does not exist: check the path"),
        ("mine.pt", "checkpoint mine.pt does not exist: check the path, or give the id of a row"),
    ],
)
def test_load_says_what_it_takes(given: str, sentence: str) -> None:
    with pytest.raises((SettingsError, CheckpointError), match=sentence):
        API.load(given)


def test_objects_are_short_in_words(detector: Checkpoint, tiny: Path, tiny_weights: Path) -> None:
    assert len(repr(detector)) < 120 and "yolov9bench weights" in repr(detector)
    assert repr(read_coco(tiny, "val")).endswith("6 images, 6 annotations, 2 classes>")
    record = API.evaluate(tiny_weights, tiny, "ultralytics", "val", image_size=64)
    assert repr(record).startswith("<evaluate record ") and "AP " in repr(record)


def test_the_command_writes_images_and_one_result_file(
    tiny: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from yolov9bench import __main__ as door

    out = tmp_path / "out"
    words = ["predict", "--checkpoint", str(tiny_weights), str(tiny / "val"), "--out", str(out)]
    words += ["--protocol", "ultralytics", "--image-size", "64", "--score-threshold", "0.13"]
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *words])
    assert door.main() == 0
    rows = json.loads((out / "detections.json").read_text())
    assert sorted(path.name for path in out.glob("*.png")) == [f"{number:06d}.png" for number in range(1, 7)]
    assert {row["image_id"] for row in rows} == set(range(1, 7))
    assert {row["category_id"] for row in rows} <= {1, 2}
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"1: \d+ detections on 000001.png \(90x48\): \d+ red \.\d\d, ", lines[0])
    assert lines[-1] == f"{len(rows)} detections in {out / 'detections.json'}, the images beside it"
    assert rows[0]["file_name"] == "000001.png"


def test_images_of_one_name_get_files_of_their_own(
    tiny: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolov9bench import __main__ as door

    image = (tiny / "val/000001.png").read_bytes()
    for folder, name in (("a", "x.png"), ("b", "x-3.png"), ("c", "x.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(image)
    images = [str(tmp_path / name) for name in ("a/x.png", "b/x-3.png", "c/x.png")]
    words = ["predict", "--checkpoint", str(tiny_weights), *images, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(
        sys, "argv", ["yolov9bench", *words, "--protocol", "ultralytics", "--image-size", "64"]
    )
    assert door.main() == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["x-3-3.png", "x-3.png", "x.png"]


@pytest.mark.parametrize("given", ["folder", "file"])
def test_images_are_not_overwritten(
    given: str, tiny: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from yolov9bench import __main__ as door

    image = tiny / "val" if given == "folder" else tiny / "val/000001.png"
    words = ["predict", "--checkpoint", str(tiny_weights), str(image), "--out", str(tiny / "val/../val")]
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *words])
    before = {path: path.read_bytes() for path in (tiny / "val").iterdir()}
    assert door.main() == 2
    assert "choose another, to overwrite none" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tiny / "val").iterdir()} == before


def test_the_version_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from yolov9bench import __main__ as door

    monkeypatch.setattr(sys, "argv", ["yolov9bench", "--version"])
    assert door.main() == 0
    assert capsys.readouterr().out == f"yolov9bench {API.__version__}\n"

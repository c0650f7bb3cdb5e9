"""A function of the user's own as a detector: what it gets, what it may return, and what its record says."""

import gzip
import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import painted_detector
import pytest
import torch
from report_records import evaluation

from yolov9bench import __main__ as door
from yolov9bench import records, report
from yolov9bench.errors import BenchError, DetectorError, SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.evaluation.own_function import find_function
from yolov9bench.io.git import commit_of
from yolov9bench.ops import ranks
from yolov9bench.records.comparability import obstacles
from yolov9bench.records.evidence import checks, evidence, own_evaluations
from yolov9bench.verify import verify

FILE = Path(painted_detector.__file__)
LABEL = f"{FILE.name}:detect"
SHIFTED = [[4.0, 3.0, 24.0, 23.0]]  # the square of the first image


def longer_blue(images: list[Any]) -> list[Any]:
    """As the painted detector, but boxes of class 2 are 24 pixels high where the square has 20."""
    found = painted_detector.detect(images)
    return [
        ([[x1, y1, x2, y2 + 4 * (labels[0] == 2)] for x1, y1, x2, y2 in boxes], scores, labels)
        for boxes, scores, labels in found
    ]


def returning(boxes: Any, scores: Any = (0.9,), labels: Any = (2,)) -> Callable[..., Any]:
    return lambda images: [(boxes, scores, labels) for _ in images]


def test_ap_by_hand(painted: Path) -> None:
    """Class 1 is met exactly. Boxes of class 2 have an IoU of 20 / 24 = .83: right at 7 of 10 thresholds."""
    record = evaluate(dataset=painted, split="val", detector=longer_blue, judge=True)
    assert record.values["AP"] == pytest.approx((1 + 0.7) / 2, abs=1e-9)
    assert record.values["AP50"] == pytest.approx(1) and record.values["AR100"] == pytest.approx(0.85)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_function_gets_whole_images_in_rgb(painted: Path, batch_size: int) -> None:
    seen: list[Any] = []

    def detect(images: list[Any]) -> list[Any]:
        seen.append([(image.shape, image.dtype) for image in images])
        return painted_detector.detect(images)

    record = evaluate(dataset=painted, split="val", detector=detect, batch_size=batch_size)
    assert record.values["AP"] == pytest.approx(1)  # it tells red from blue
    sizes = [(40 + 8 * number, 96 - 6 * number, 3) for number in range(1, 7)]
    assert [each for batch in seen for each in batch] == [(size, np.uint8) for size in sizes]
    assert [len(batch) for batch in seen] == {1: [1] * 6, 4: [4, 2]}[batch_size]


def test_the_record_names_the_code_and_is_of_no_row(painted: Path) -> None:
    record = evaluate(dataset=painted, split="val", detector=f"{FILE}:detect", name="squares")
    own = record.inputs["own"]
    assert (own["name"], own["function"]) == ("squares", LABEL)
    assert own["function_sha256"] == hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert record.row is None and record.settings["protocol"] == {"name": "own"}
    assert record.inputs["weights_sha256"] is None and record.environment["device"] is None
    assert str(FILE.parent) not in json.dumps(records.as_stored(record))


def test_a_record_that_claims_a_row_does_not_enter_it() -> None:
    """Everything is that row's but for a function that detected."""
    own = {"name": "mine", "function": "my.py:detect", "protocol": {"name": "own"}}
    assert obstacles(evaluation()) == []
    claimed = evaluation(inputs={"own": own})
    assert obstacles(claimed) == ["a detector of one's own, which is in no row"]
    assert evidence([claimed])["yolov9-c"].ap is None and checks([claimed]) == []
    assert own_evaluations([evaluation(), claimed]) == [claimed]


@pytest.mark.parametrize(
    ("detect", "sentence"),
    [
        (lambda images: None, "returned a NoneType: return a list with one (boxes, scores, labels) for each"),
        (lambda images: [([], [], [])], "returned 1 result for 6 images: return one (boxes, scores, labels)"),
        (lambda images: [([], []) for _ in images], "000001.png: the result is 2 values: return (boxes, sc"),
        (lambda images: [np.zeros((3, 4)) for _ in images], "000001.png: the result is a ndarray: return"),
        (returning([[1, 2, 3, 4, 5]]), "000001.png: boxes have the shape [1, 5]: return [N, 4], x1 y1 x2 y2"),
        (returning([1, 2, 3, 4]), "000001.png: boxes have the shape [4]: return [N, 4]"),
        (returning("boxes"), "000001.png: boxes are 'boxes': return an array of numbers"),
        (returning([[1, 2], [3]]), "000001.png: boxes are [[1, 2], [3]]: return an array of numbers"),
        (returning(SHIFTED, [0.9, 0.8]), "scores have the shape [2] beside 1 box: return [1]"),
        (returning(SHIFTED, labels=[]), "labels have the shape [0] beside 1 box: return [1]"),
        (returning([[4, 3, np.nan, 23]]), "box 0 [4, 3, nan, 23] of score 0.9 is not finite: return numbers"),
        (returning([[0, 0, 1e300, 1]]), "box 0 [0, 0, 1e+300, 1] of score 0.9 is not finite"),
        (returning(SHIFTED, [np.inf]), "of score inf is not finite"),
        (returning(SHIFTED, [1.5]), "of score 1.5 has no score from 0 to 1: return scores from 0 to 1"),
        (returning([[50, 40, 20, 20]]), "ends before it begins: return x1 y1 x2 y2, not x y width height"),
        (returning(SHIFTED, labels=[0]), "label 0 is no category id of the data set (1, 2): return category"),
        (returning(SHIFTED, labels=[1.5]), "label 1.5 is no category id"),
        (returning(SHIFTED, labels=[True]), "labels are [True]: return an array of numbers"),
    ],
)
def test_a_result_of_another_form_is_one_sentence(painted: Path, detect: Any, sentence: str) -> None:
    with pytest.raises(DetectorError) as refused:
        evaluate(dataset=painted, split="val", detector=detect)
    assert sentence in str(refused.value) and str(refused.value).startswith("detector ")
    assert "\n" not in str(refused.value)


def test_what_a_function_raises_is_named_with_its_line(painted: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\n\ndef detect(images):\n    return json.loads('{')\n")
    with pytest.raises(DetectorError, match=r"fails on 000001.png.*JSONDecodeError.* in mine.py, line 5\)"):
        evaluate(dataset=painted, split="val", detector=f"{file}:detect")


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("mine.py", "detector 'mine.py' names no function: give file.py:function or module:function"),
        ("mine.py:detekt", "there is no function of mine.py 'detekt'; did you mean 'detect'?"),
        ("mine.py:number", "is a int, no function"),
        ("none.py:detect", "detector file none.py does not exist: check the path"),
        ("no_such.module:detect", "detector module 'no_such.module' is not found"),
        ("broken.py:detect", "broken.py fails when it is imported (KeyError: 'x' in broken.py, line 2)"),
        ("lacking.py:detect", "ModuleNotFoundError: No module named 'no_such' in lacking.py, line 1"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(
    named: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("number = 3\ndef detect(images): return []\n")
    Path("broken.py").write_text("\n{}['x']\n")
    Path("lacking.py").write_text("import no_such\n")
    with pytest.raises(BenchError) as refused:
        find_function(named)
    assert sentence in str(refused.value)


def test_callables_of_any_kind_are_named() -> None:
    class Detector:
        def __call__(self, images: list[Any]) -> list[Any]:
            return []

    found = find_function(Detector())
    assert (found.label, found.file) == (f"{Path(__file__).name}:Detector", Path(__file__))
    assert find_function(partial(painted_detector.detect)).label == LABEL
    assert find_function("sys:exit").sha256 is None


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from beside_it import detect\n")
    (tmp_path / "beside_it.py").write_text("def detect(images): return []\n")
    before = list(sys.path)
    assert find_function(f"{tmp_path / 'mine.py'}:detect").label == "mine.py:detect"
    assert sys.path == before


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"protocol": "mmyolo"}, "protocol is 'mmyolo', but a function detects in its own way: leave protoc"),
        ({"image_size": 640}, "image_size is 640"),
        ({"tta": True}, "tta is True"),
        ({"device": "cpu"}, "device is 'cpu'"),
        ({"name": "a\nb"}, r"name is 'a\\nb': give 1 to 60 characters on one line"),
        ({"checkpoint": "x.pt"}, "checkpoint and detector are given: give one of checkpoint, detector, row"),
    ],
)
def test_settings_of_a_network_are_refused(painted: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        evaluate(**{"dataset": painted, "split": "val", "detector": painted_detector.detect, **given})


def test_one_process_evaluates_a_function(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(ranks.VARIABLES, ("0", "2", "0"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        SettingsError, match="a function is evaluated by one process: start it without torchrun"
    ):
        evaluate(dataset=painted, split="val", detector=painted_detector.detect)


def test_boxes_beyond_an_image_are_counted_and_kept(
    painted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = tmp_path / "found.json"
    with caplog.at_level(logging.WARNING, "yolov9bench"):
        evaluate(dataset=painted, split="val", detector=returning([[-2, 0, 95, 9]]), detections=stored)
    assert "6 boxes on 6 images (first 000001.png) reach out of their image" in caplog.text
    assert json.loads(stored.read_text())[0]["bbox"] == [-2, 0, 97, 9]


def test_tensors_and_empty_results_are_taken_best_first(painted: Path, tmp_path: Path) -> None:
    def detect(images: list[Any]) -> list[Any]:
        boxes, scores = torch.tensor([[0, 0, 9, 9], [1, 1, 8, 8.0]]), torch.tensor([0.25, 0.5])
        second = (np.array([[0, 0, 9, 9], [1, 1, 8, 8]], np.uint8), np.array([0, 1], np.uint8), [1, 2])
        first = (boxes.bfloat16(), scores.requires_grad_(), torch.tensor([1, 2]))
        return [first, second, *(([], [], []) for _ in images[2:])]

    stored = tmp_path / "found.json"
    evaluate(dataset=painted, split="val", detector=detect, detections=stored)
    found = json.loads(stored.read_text())
    best_first = [(2, 0.5), (1, 0.25), (2, 1), (1, 0)]
    assert [(row["category_id"], row["score"]) for row in found] == best_first


def test_chosen_classes_and_a_corrupt_image(tiny: Path) -> None:
    (tiny / "val/000001.png").write_bytes(b"no image")  # of class 2
    given: dict[str, Any] = {"dataset": tiny, "split": "val", "detector": longer_blue, "skip_corrupt": True}
    record = evaluate(**given, classes="blue")
    assert record.values["AP"] == pytest.approx(0.7) and record.settings["classes"] == {"blue": "blue"}
    assert (record.inputs["images"], record.inputs["images_skipped"]) == (5, ["000001.png"])


def test_the_commit_of_a_file_is_known_only_while_it_holds_it(tmp_path: Path) -> None:
    file, git = tmp_path / "mine.py", ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    file.write_text("1\n")
    assert commit_of(file) is None
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        assert words[0] == "init" or commit_of(file) is None
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert commit_of(file) == head.strip()
    file.write_text("2\n")
    assert commit_of(file) is None


def test_from_the_command_line_to_table_and_verification(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, boxes = tmp_path / "results", painted / "annotations/instances_val.json"
    words = ["evaluate", "--detector", f"{FILE}:detect", "--dataset", str(painted), "--split", "val"]
    words += ["--name", "red | blue", "--results", str(results)]
    monkeypatch.setattr(report, "write_figures", lambda *_: None)  # they take seconds
    for arguments in (words, ["report", "--results", str(results)]):
        monkeypatch.setattr(sys, "argv", ["yolov9bench", *arguments])
        assert door.main() == 0
    assert "AP    1.00000" in capsys.readouterr().out
    (path,) = results.glob("records/custom/*.json")
    section = (results / "table.md").read_text().partition("### Own detectors")[2]
    cells = r"| red \| blue | painted\_detector.py:detect | own | 6 | **100.0** | 100.0 to 100.0 | — | — |"
    assert f"{cells} [{records.read(path).start[:10]}](records/custom/{path.name}) |" in section
    (outcome,) = verify(results, [path], [boxes])
    assert outcome.word == "verified"

    (packed,) = results.glob("detections/*.gz")
    rows = json.loads(gzip.decompress(packed.read_bytes()))
    rows[0]["score"] = 0.8
    packed.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode()))
    (outcome,) = verify(results, [path], [boxes])
    assert outcome.word == "false" and "are other detections" in str(outcome)

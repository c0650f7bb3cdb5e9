"""The door: what each command answers, and that a failure is one sentence and status 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import yolov9bench
from yolov9bench import __main__ as door
from yolov9bench.config import Parameters

BLOCKED = ("torch", "pandas", "matplotlib", "numpy", "cv2", "hotcoco", "torchvision")


def answered(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *arguments])
    return door.main()


def test_rows_needs_no_torch() -> None:
    """In a process where these imports fail."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "sys.argv = ['yolov9bench', 'rows', '--json']\n"
        "from yolov9bench.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 27


def test_one_row_in_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert answered("rows", "yolov9-c", "--json", monkeypatch=monkeypatch) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["published"]["box_ap"] == 53.0
    assert row["spec"]["aux"] == "reversible"


def test_inspect_says_what_a_file_is(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert answered("inspect", str(tiny_weights), "--json", str(out), monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    assert (found["format"], found["spec"], found["num_classes"]) == ("yolov9bench", "yolov9-t-80", 2)


def test_evaluate_writes_record_and_detections(
    tiny: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [
        "--checkpoint",
        str(tiny_weights),
        "--dataset",
        str(tiny),
        "--split",
        "val",
        "--image-size",
        "64",
    ]
    flags += ["--protocol", "ultralytics-square", "--limit", "2", "--judge"]
    flags += ["--json", str(tmp_path / "record.json"), "--detections", str(tmp_path / "found.json")]
    assert answered("evaluate", *flags, monkeypatch=monkeypatch) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["settings"]["protocol"]["name"] == "ultralytics-square"
    assert len(json.loads((tmp_path / "found.json").read_text())) == record["values"]["detections"]["count"]
    assert f"AP    {record['values']['AP']:.5f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rows", "yolov9-q"], "yolov9-q"),
        (["inspect", "nowhere.pt"], "nowhere.pt"),
        (["evaluate", "--checkpoint", "nowhere.pt", "--dataset", "nowhere"], "nowhere"),
        (["reproduce", "--size", "q"], "'q'"),
    ],
)
def test_a_failure_is_one_sentence_and_status_2(
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answered(*arguments, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert said.out == ""


def test_reproduce_has_a_flag_for_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        door.parser().parse_args(["reproduce", "--help"])
    text = capsys.readouterr().out
    for name in Parameters.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text


def test_public_names_come_when_asked_for() -> None:
    assert callable(yolov9bench.build) and callable(yolov9bench.nms)
    with pytest.raises(AttributeError, match="nothing"):
        _ = yolov9bench.nothing

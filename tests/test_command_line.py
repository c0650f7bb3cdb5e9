"""The door: what each command answers, and that a failure is one sentence and status 2."""

import ast
import inspect
import json
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

import yolov9bench
from yolov9bench import __main__ as door

BLOCKED = ("torch", "pandas", "matplotlib", "numpy", "cv2", "hotcoco", "torchvision")


def answered(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *arguments])
    return door.main()


def test_rows_needs_no_torch() -> None:
    """In a process where these imports fail; None in sys.modules would not do, since tyro looks there."""
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {BLOCKED!r}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
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
    assert (found["format"], found["spec"], found["num_classes"]) == ("yolov9bench", "small", 2)


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


LONG = "x" * 300
HERE = ["evaluate", "--checkpoint", __file__, "--dataset", str(Path(__file__).parent)]
POSITIONALS = {
    ("rows", "row"),
    ("inspect", "file"),
    ("check-data", "folder"),
    ("predict", "images"),
    ("measure", "row"),
    ("verify", "records"),
    ("second-opinion", "record"),
    ("compare", "records"),
    ("export", "records"),
    ("tidy", "files"),
}


@pytest.mark.parametrize("command", door.COMMANDS)
def test_help_explains_every_flag_and_gives_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read with the standard library: a flag, or a positional's sentence, for each field of the dataclass."""
    with pytest.raises(SystemExit) as ended:
        door.parse([command, "--help"])
    assert ended.value.code == 0
    text = " ".join(re.sub("[│╭╰╮╯─]", " ", capsys.readouterr().out).split())
    config = (get_args(door.COMMANDS[command]) or (door.COMMANDS[command],))[0]
    sentences = documented(config)
    for field in fields(config):
        assert sentences[field.name] in text
        if str(getattr(field, "default", "")) not in ("", "()") and field.default is not MISSING:
            assert f"{sentences[field.name]} (default: {field.default})" in text
        if (command, field.name) not in POSITIONALS:
            assert f"--{field.name.replace('_', '-')}" in text


def documented(config: type[Any]) -> dict[str, str]:
    """The docstring under each field, from the source."""
    (tree,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


@pytest.mark.parametrize("help_of", ["evaluate", "reproduce", "train"])
def test_help_needs_no_torch(help_of: str) -> None:
    code = (
        "import sys\nfrom yolov9bench import __main__ as door\n"
        f"try: door.parse([{help_of!r}, '--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


EVALUATE = ["evaluate", "--checkpoint", "x.pt", "--dataset", "d"]
TRAIN = ["train", "--row", "yolov9-t", "--dataset", "demo", "--out", "run"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rows", "yolov9-q"], "yolov9-q"),
        (["rows", "YOLOv9-MM"], "there is no row 'YOLOv9-MM'; did you mean 'yolov9-m'?"),
        (["inspect", "nowhere.pt"], "nowhere.pt"),
        (["evaluate", "--checkpoint", "nowhere.pt", "--dataset", "nowhere"], "nowhere"),
        (["reproduce", "--size", "q"], "'q'"),
        (["evaluatee"], "there is no command 'evaluatee'; did you mean 'evaluate'?"),
        (["evaluate", "--checkpont", "x"], "there is no flag of evaluate '--checkpont'; did you mean '--ch"),
        (["rows", "--no-jsn"], "there is no flag of rows '--no-jsn'"),
        (["evaluate"], "Missing from yolov9bench evaluate: --dataset PATH"),
        (["evaluate", "--dataset", "d"], "no detector is given: give one of checkpoint, detector, row"),
        ([*EVALUATE, "--detector", "a.py:b"], "checkpoint and detector are given: give one of"),
        ([], "Expected one of {rows, inspect, check-data, predict"),
        (["tidy"], "files is missing: give at least one"),
        (["sweep", "--rows"], "rows is missing: give at least one"),
        ([*TRAIN, "--seed", "many"], "Error parsing --seed"),
        ([*TRAIN, "--seed"], "Missing value for argument '--seed'"),
        ([*TRAIN, "--seed", "-1"], "seed is -1: give 0 or more"),
        ([*TRAIN, "--precision", "float8"], "invalid choice 'float8' for argument '--precision'"),
        ([*TRAIN, "--learning-rate", "nan"], "learning_rate is nan: give a finite number above 0"),
        ([*TRAIN, "--recipe", "smal"], "there is no recipe 'smal'; did you mean 'small'?"),
        ([*TRAIN, "--image-size", "100"], "image_size 100 is not a multiple of 32: take 96 or 128"),
        ([*EVALUATE, "--protocol", "mmyol"], "there is no protocol 'mmyol'; did you mean 'mmyolo'?"),
        ([*EVALUATE, "--limit", "0"], "limit is 0: give 1 or more"),
        (EVALUATE, "checkpoint x.pt does not exist: check the path"),
        (["measure", "yolov9-t", "--image-size", "33"], "image_size 33 is not a multiple of 32"),
        (["reproduce", "--seed", "-1"], "seed is -1: give 0 or more"),
        (["reproduce", "--checkpoint", "x.pt"], "checkpoint x.pt does not exist: check the path"),
        ([*EVALUATE, "--protocol", "yolov8"], "no protocol 'yolov8': its authors validate by ultralytics"),
        ([*EVALUATE, "--image-size", "1000000000"], "image_size is 1000000000: give 16384 or less"),
        ([*EVALUATE, "--batch-size", "1000000"], "batch_size is 1000000: give 65536 or less"),
        ([*EVALUATE, "--checkpoint", "https://x.y/z.pt"], "is a web address: fetch the file and give its"),
        (
            [*EVALUATE, "--checkpoint", "YOLOv9-mm"],
            "no checkpoint or row 'YOLOv9-mm'; did you mean 'yolov9-m'?",
        ),
        ([*EVALUATE, "--checkpoint", "."], "checkpoint . is a folder: give a file in it"),
        ([*EVALUATE, "--checkpoint", LONG], "cannot be a path (File name too long): choose another"),
        ([*HERE, "--json", LONG], "cannot be a path (File name too long): choose another"),
        ([*HERE, "--results", LONG], "cannot be a path (File name too long): choose another"),
        ([*HERE, "--device", "gpu"], "device is 'gpu': a GPU is called cuda"),
        ([*HERE, "--device", "GPU"], "device is 'GPU': a GPU is called cuda"),
        ([*HERE, "--device", "1"], "device is '1': a GPU is called cuda:1"),
        ([*HERE, "--device", "tpu"], "device 'tpu' cannot be used: take cpu, cuda, or auto"),
        ([*TRAIN, "--seed", str(2**63)], f"seed is {2**63}: give {2**63 - 1} or less"),
        ([*TRAIN, "--workers", "5000"], "workers is 5000: give 1024 or less"),
        ([*TRAIN, "--out", LONG], "cannot be a path (File name too long): choose another"),
        (["report", "--results", "."], "results . has no folder records: give the folder that has it"),
        (["report", "--results", "nowhere"], "results nowhere does not exist: check the path"),
        (["verify", "nowhere.json"], "record nowhere.json does not exist: check the path"),
        (["second-opinion", "nowhere.json"], "record nowhere.json does not exist: check the path"),
        (["second-opinion", "."], "record . is a folder: give a file in it"),
        (["second-opinion", __file__, "--corrected", "x"], "corrected x does not exist: check the path"),
        (["export"], "Missing from yolov9bench export: --form"),
        (["export", "--form", "card"], "invalid choice 'card' for argument '--form'"),
        (["export", "--form", "eval-results"], "dataset_id is missing: give the hub's benchmark"),
        (
            ["export", "--form", "metafile", "--task-id", "x"],
            "are for eval-results: leave them out",
        ),
        (["export", "--form", "metafile", "--source", "https://x.y"], "a metafile has no place for it"),
        (["export", "--form", "model-index", "--source", "x.y"], "source is 'x.y': give a web address"),
        (["export", "--form", "model-index", "nowhere"], "record nowhere does not exist: check the path"),
        (["check-data", "nowhere"], "folder nowhere does not exist: check the path"),
        (["predict", "nowhere.jpg", "--checkpoint", __file__], "image nowhere.jpg does not exist: check the"),
        (["predict", __file__, "--checkpoint", "x.pt"], "checkpoint x.pt does not exist: check the path"),
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
    assert sentence in said.err and said.err.count("\n") == 1 and said.out == ""
    assert "Traceback" not in said.err


@pytest.mark.parametrize("flag", ["--json", "--results"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocking = tmp_path / "file"
    blocking.touch()
    out = str(blocking / "below/record.json")
    assert answered("measure", "yolov9-t", flag, out, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"lies below {blocking}, which is a file" in said and said.count("\n") == 1
    assert blocking.read_bytes() == b"" and list(tmp_path.iterdir()) == [blocking]


def test_ctrl_c_is_one_line_and_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "run", interrupted)
    assert answered("rows", monkeypatch=monkeypatch) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


def test_public_names_come_when_asked_for() -> None:
    assert callable(yolov9bench.build) and callable(yolov9bench.nms)
    assert callable(yolov9bench.evaluate) and callable(yolov9bench.train_row)
    assert re.fullmatch(r"\d+\.\d+\.\d+", yolov9bench.__version__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = yolov9bench.nothing

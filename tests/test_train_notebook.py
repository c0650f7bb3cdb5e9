"""The training notebook by its outputs: it continues a run, shows its curve and its record's figures."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import papermill
import pytest
from numpy.typing import NDArray
from small_runs import Killed, small_data

from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.io.files import sha256_of
from yolov9bench.train import trainer
from yolov9bench.train.checkpoint import read_log
from yolov9bench.weights import load

FOLDER = Path(__file__).parents[1] / "notebooks"
BLUE = (0, 114, 178)  # of the lines of a training curve


def test_the_notebooks_are_these() -> None:
    """What is checked for every notebook is checked for these."""
    found = {path.name for path in FOLDER.glob("*.ipynb")}
    names = ("performance", "protocol", "reproduce", "speed", "table", "train")
    assert found == {f"{name}.ipynb" for name in names}


def outputs(notebook: Any, kind: str) -> list[str]:
    """The outputs of one MIME type, in order."""
    return [
        "".join(output["data"][kind])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


def table(html: str) -> dict[str, str]:
    """Columns and first row of a data frame."""
    names = re.findall(r"<th>(.*?)</th>", html.partition("</thead>")[0])
    values = re.findall(r"<td>(.*?)</td>", html)
    return dict(zip((name for name in names if name), values, strict=False))


def decoded(image: str) -> NDArray[np.int64]:
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels[:, :, ::-1].astype(np.int64)


def stop(log: list[Any]) -> None:
    raise Killed


@pytest.mark.accuracy
@pytest.mark.slow(20)
def test_the_training_notebook_continues_a_run_and_shows_what_came_out(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run began with trained weights, so that its AP is far from 0, and stopped after its first epoch."""
    given: dict[str, Any] = {
        "family": "yolov8",
        "size": "n",
        "dataset": str(shared / "coco"),
        "limit": 4,
        "recipe": "small",  # whose biases warm up from a rate of 0: the weights stay about as they are
        "epochs": 2,
        "image_size": 320,
        "batch_size": 4,
        "device": "cpu",
        "results_dir": str(tmp_path / "results"),
    }
    job = reproduce.build_job(reproduce.make_plan(ReproduceConfig(checkpoint="train", **given)))
    with monkeypatch.context() as patch:
        trained = load(shared / "weights/yolov8n.pt", training=True).detector
        patch.setattr(trainer, "build", lambda *_: trained)
        with pytest.raises(Killed):
            trainer.train(job, watch=stop)
    notebook = papermill.execute_notebook(
        FOLDER / "train.ipynb", tmp_path / "out.ipynb", given, progress_bar=False, kernel_name="python3"
    )
    assert [entry["epoch"] for entry in read_log(job)] == [0, 1]
    (path,) = (tmp_path / "results/records/yolov8-n").glob("evaluate-*.json")
    record = json.loads(path.read_text())
    assert record["inputs"]["weights_sha256"] == sha256_of(job.out / "best.pt")
    assert (record["inputs"]["images"], record["settings"]["protocol"]["image_size"]) == (4, 320)
    *_, log, metrics = outputs(notebook, "text/html")
    shown = {name: float(value) for name, value in table(metrics).items()}
    expected = {name: value for name, value in record["values"].items() if name in shown}
    assert len(expected) == len(shown) >= 6
    assert shown == {name: pytest.approx(100 * value, abs=0.0051) for name, value in expected.items()}
    assert shown["AP"] > 10
    assert (table(log)["epoch"], table(log)["steps"]) == ("1", "1")
    said = outputs(notebook, "text/markdown")
    assert "yolov8-n" in said[0]
    assert "the recipe is `small`, not the row's own" in said[1]
    assert "not comparable: weights other than the published ones" in said[-2]
    assert path.name in said[-1]
    (sheet,) = [decoded(photographs) for photographs in outputs(notebook, "image/jpeg")]
    curves = [decoded(chart) for chart in outputs(notebook, "image/png")]
    assert sheet.std() > 20
    assert len(curves) == 2  # as it grew, and as it ended
    for curve in curves:
        assert (np.abs(curve - BLUE).max(axis=2) < 40).sum() > 200
    assert (curves[1].shape, curves[1].std() > 10) == (curves[0].shape, True)


@pytest.mark.accuracy
@pytest.mark.slow(40)
def test_the_training_notebook_trains_in_two_processes(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "family": "yolov8",
        "size": "n",
        "dataset": str(small_data(tmp_path / "data")),
        "split": "val",
        "epochs": 2,
        "image_size": 64,
        "batch_size": 2,
        "device": "cpu",
        "processes": 2,
        "results_dir": str(tmp_path / "results"),
    }
    notebook = papermill.execute_notebook(
        FOLDER / "train.ipynb", tmp_path / "out.ipynb", given, progress_bar=False, kernel_name="python3"
    )
    (run,) = (tmp_path / "results/runs/train").iterdir()
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [len(entry["processes"]) for entry in entries] == [2, 2]
    assert json.loads((run / "run.json").read_text())["world_size"] == 2
    *_, log, processes, metrics = outputs(notebook, "text/html")
    assert "processes" not in table(log)
    assert float(table(log)["total"]) == pytest.approx(entries[0]["total"], abs=1e-5)
    assert float(table(processes)["images_per_second"]) == entries[-1]["processes"][0]["images_per_second"]
    said = outputs(notebook, "text/markdown")
    assert "64 images a step, 4 at a time" in said[1] and "BatchNorm's statistics of 2 images" in said[1]
    assert len(outputs(notebook, "image/jpeg")) == 1  # what it sees
    assert len(outputs(notebook, "image/png")) == 2  # the curve as it grew and as it ended
    assert "AP" in table(metrics)

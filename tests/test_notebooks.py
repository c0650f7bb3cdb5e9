"""The notebooks: their manners, and a run of each through papermill."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from yolov9bench.errors import ReportError, SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.io.notebooks import tidy

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.ipynb"))


def code_cells(path: Path) -> list[Any]:
    notebook = nbformat.read(path, 4)  # type: ignore[no-untyped-call]
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
class TestManners:
    def test_valid_and_without_output(self, path: Path) -> None:
        notebook = nbformat.read(path, 4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        assert "widgets" not in notebook.metadata
        for cell in code_cells(path):
            assert cell.outputs == [] and cell.execution_count is None

    def test_short_cells_of_statements_only(self, path: Path) -> None:
        cells = code_cells(path)
        assert 5 <= len(cells) <= 14
        for cell in cells:
            assert not any(line.startswith(("def ", "class ")) for line in cell.source.splitlines())
            if "parameters" not in cell.metadata.get("tags", []):
                assert len(cell.source.splitlines()) <= 16, cell.source

    def test_one_parameters_cell_before_all_others(self, path: Path) -> None:
        tagged = ["parameters" in cell.metadata.get("tags", []) for cell in code_cells(path)]
        assert tagged == [True] + [False] * (len(tagged) - 1)

    def test_every_parameter_is_one_line_whose_comment_papermill_shows(self, path: Path) -> None:
        """As in papermill --help-notebook."""
        shown = papermill.inspect_notebook(str(path))
        (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
        assert [line.partition(":")[0] for line in cell.source.splitlines()] == list(shown)
        assert all(each["help"] and each["inferred_type_name"] for each in shown.values())


def run(out: Path, **parameters: Any) -> Any:
    return papermill.execute_notebook(
        FOLDER / "reproduce.ipynb", out, parameters, progress_bar=False, kernel_name="python3"
    )


def outputs(notebook: Any, kind: str) -> list[str]:
    """The outputs of one MIME type, in order."""
    return [
        "".join(output["data"][kind])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


@pytest.mark.slow(15)
def test_reproduce_runs_on_painted_images(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    notebook = run(
        tmp_path / "out.ipynb",
        checkpoint=str(tiny_weights),
        dataset=str(tiny),
        split="val",
        image_size=64,
        results_dir=str(tmp_path / "results"),
    )
    photographs, charts = outputs(notebook, "image/jpeg"), outputs(notebook, "image/png")
    assert (len(photographs), len(charts)) == (2, 3)
    assert "widgets" not in notebook.metadata
    verdict = outputs(notebook, "text/markdown")[-2]
    assert "not comparable: weights other than the published ones" in verdict
    heading, figures = [line for line in verdict.splitlines() if line.startswith("|") and "-" not in line[:3]]
    assert heading.split("|")[1].strip() == "figure" and "box AP (%)" in figures and "38.3" in figures
    (record,) = (tmp_path / "results/records/yolov9-t").glob("*.json")
    content = json.loads(record.read_text())
    assert content["inputs"]["images"] == 6
    words = ["checkpoint=untrained.pt", "dataset=tiny", "split=val", "image_size=64", "results_dir=results"]
    assert content["command"] == ["notebooks/reproduce.ipynb", *words]


@pytest.mark.slow(15)
def test_a_misspelt_parameter_stops_the_first_cell(tmp_path: Path) -> None:
    with pytest.raises(PapermillExecutionError, match="SettingsError") as stopped:
        run(tmp_path / "out.ipynb", sizee="m")
    assert "did you mean 'size'?" in str(stopped.value)
    assert stopped.value.exec_count <= 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"size": "mm"}, "'mm'"), ({"protocol": "mmyol"}, "did you mean 'mmyolo'?")],
    ids=str,
)
def test_a_misspelt_value_stops_the_first_cell(
    given: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As papermill runs them, but in this process: a kernel takes seconds to start."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # it would stay for the tests that follow
    parameters, *others = (cell.source for cell in code_cells(FOLDER / "reproduce.ipynb"))
    given_cell = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    namespace: dict[str, Any] = {}
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        for exec_count, source in enumerate((parameters, given_cell, *others), 1):  # noqa: B007
            exec(re.sub(r"(?m)^%.*$", "", source), namespace)
    assert exec_count <= 3


@pytest.mark.accuracy
@pytest.mark.slow(40)
def test_reproduce_on_real_images_through_papermill(shared: Path, tmp_path: Path) -> None:
    """The notebook's record has the very metrics of an evaluation without it, which test_evaluate checks."""
    weights, images = shared / "weights/yolov8n.pt", shared / "coco"
    run(
        tmp_path / "out.ipynb",
        family="yolov8",
        size="n",
        source="ultralytics",
        checkpoint=str(weights),
        dataset=str(images),
        protocol="ultralytics-square",
        limit=20,
        results_dir=str(tmp_path / "results"),
    )
    (path,) = (tmp_path / "results/records/ultralytics-yolov8n").glob("*.json")
    values = json.loads(path.read_text())["values"]
    expected = evaluate(weights, images, "ultralytics-square", limit=20).values
    assert expected["AP"] > 0.3
    assert values | {"detections": None} == expected | {"detections": None}
    assert values["detections"]["sha256"] == expected["detections"]["sha256"]


@pytest.mark.slow(15)
@pytest.mark.parametrize(("name", "images"), [("table", 0), ("performance", 3)])
def test_results_without_records_are_the_published_ones(name: str, images: int, tmp_path: Path) -> None:
    notebook = papermill.execute_notebook(
        FOLDER / f"{name}.ipynb",
        tmp_path / "out.ipynb",
        {"results_dir": str(tmp_path)},
        progress_bar=False,
        kernel_name="python3",
    )
    assert len(outputs(notebook, "image/png")) == images
    shown = "".join(outputs(notebook, "text/html") + outputs(notebook, "text/markdown"))
    assert "37.2" in shown and "yolov8-n" in shown
    out = tmp_path / "out.ipynb"
    tidy(out)
    nbformat.validate(nbformat.read(out, 4))  # type: ignore[no-untyped-call]
    kept = nbformat.read(out, 4).metadata  # type: ignore[no-untyped-call]
    assert (kept.papermill.input_path, kept.papermill.output_path) == (f"{name}.ipynb", "out.ipynb")
    assert outputs(nbformat.read(out, 4), "image/png") == outputs(notebook, "image/png")  # type: ignore[no-untyped-call]
    assert out.stat().st_size < 1_000_000


def test_tidy_takes_paths_out_of_texts_but_leaves_images_and_sources(tmp_path: Path) -> None:
    image = "iVBOR+/home/me/AAAA=="  # letters of base64 that look like a path
    source = "# from /home/me/own/notes.txt"
    texts = {"text/plain": "read from /home/me/data/coco", "image/png": image}
    metadata = {"papermill": {"output_path": "/home/me/out.ipynb"}, "widgets": {"state": {}}}
    shown = [
        {"output_type": "stream", "name": "stdout", "text": ["wrote /home/me/runs/last.pt\n", "40 km/h\n"]},
        {"output_type": "display_data", "data": texts, "metadata": {}},
    ]
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": source},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": source, "outputs": shown},
    ]
    given = {"tags": ["injected-parameters"]}
    filled = ['results_dir = "/home/me/results"\n', "limit = 8\n"]
    cells += [{"cell_type": "code", "metadata": given, "execution_count": 2, "source": filled, "outputs": []}]
    path = tmp_path / "out.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}))
    tidy(path)
    tidied = json.loads(path.read_text())
    assert tidied["metadata"] == {"papermill": {"output_path": "out.ipynb"}}
    stream, display = tidied["cells"][1]["outputs"]
    assert stream["text"] == ["wrote last.pt\n", "40 km/h\n"]
    assert display["data"] == {"text/plain": "read from coco", "image/png": image}
    given_as = ['results_dir = "results"\n', "limit = 8\n"]
    assert [cell["source"] for cell in tidied["cells"]] == [source, source, given_as]


def test_tidy_refuses_what_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "out.ipynb").write_text("[]")
    with pytest.raises(ReportError, match=r"out\.ipynb is not a notebook"):
        tidy(tmp_path / "out.ipynb")

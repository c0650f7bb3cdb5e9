"""What a committed notebook must not tell, in the places where the run of one seldom puts anything."""

import json
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.errors import ReportError
from yolov9bench.io.notebooks import tidy


def tidied(folder: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """A code cell after its notebook was tidied."""
    whole = {
        "cell_type": "code",
        "metadata": {},
        "execution_count": 1,
        "source": "run()",
        "outputs": [],
    } | cell
    path = folder / "out.ipynb"
    path.write_text(json.dumps({"cells": [whole], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    tidy(path)
    (found,) = json.loads(path.read_text())["cells"]
    return dict(found)


ERROR = {"output_type": "error", "ename": "DatasetError", "evalue": "no images", "traceback": []}


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ({"outputs": [ERROR]}, "raised an exception"),
        ({"metadata": {"papermill": {"exception": True, "status": "failed"}}}, "raised an exception"),
        ({"metadata": {"papermill": {"exception": None, "status": "pending"}}}, "is pending"),
        ({"metadata": {"papermill": {"exception": None, "status": "running"}}}, "is running"),
    ],
)
def test_a_notebook_that_did_not_end_is_refused_and_left_as_it_is(
    cell: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(ReportError, match=rf"not run to its end, code cell 1 of 1 {what}: run it again$"):
        tidied(tmp_path, cell)
    assert json.loads((tmp_path / "out.ipynb").read_text())["cells"][0].items() >= cell.items()


def test_a_cells_metadata_keeps_no_path_of_the_machine(tmp_path: Path) -> None:
    """papermill may write where a cell ran."""
    metadata = {"papermill": {"status": "completed", "working_dir": "/home/me/own"}, "tags": ["shown"]}
    found = tidied(tmp_path, {"metadata": metadata})["metadata"]
    assert found == {"papermill": {"status": "completed", "working_dir": "own"}, "tags": ["shown"]}

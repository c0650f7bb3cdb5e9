"""What a committed notebook must not tell, in the places where the run of one seldom puts anything."""

import json
from pathlib import Path
from typing import Any

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


def test_a_traceback_keeps_no_path_of_the_machine(tmp_path: Path) -> None:
    error = {
        "output_type": "error",
        "ename": "DatasetError",
        "evalue": "no annotations at /home/me/data/coco: name another folder",
        "traceback": [
            "Traceback\n",
            'File "/home/me/own/yolov9bench/data/coco.py", line 3\n',
            "DatasetError",
        ],
    }
    (found,) = tidied(tmp_path, {"outputs": [error]})["outputs"]
    assert "home" not in json.dumps(found)
    assert found["evalue"] == "no annotations at coco: name another folder"
    assert found["traceback"][1] == 'File "coco.py", line 3\n'
    assert (found["output_type"], found["ename"]) == ("error", "DatasetError")


def test_a_cells_metadata_keeps_no_path_of_the_machine(tmp_path: Path) -> None:
    """papermill may write where a cell ran."""
    metadata = {"papermill": {"status": "completed", "working_dir": "/home/me/own"}, "tags": ["shown"]}
    found = tidied(tmp_path, {"metadata": metadata})["metadata"]
    assert found == {"papermill": {"status": "completed", "working_dir": "own"}, "tags": ["shown"]}

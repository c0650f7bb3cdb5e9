"""Executed notebooks made fit to be committed: run to their end, without machine paths or widgets' state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yolov9bench.errors import ReportError
from yolov9bench.io.files import write_text
from yolov9bench.io.provenance import reduce_paths


def tidy(path: Path) -> None:
    """Rewrite an executed notebook in place: absolute paths become file names, in metadata and in all text.

    So do those among the parameters that papermill filled in; images and all other sources stay as they
    are. ReportError: the file is not a notebook, or not all of it has run; it is left as it is then.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is not a notebook: name one that papermill has written") from error
    require_complete(path, cells)
    notebook["metadata"].pop("widgets", None)
    notebook["metadata"] = reduce_paths(notebook["metadata"])
    for cell in cells:
        cell["metadata"] = reduce_paths(cell["metadata"])
        if cell["cell_type"] == "code":
            cell["outputs"] = [_tidied(output) for output in cell["outputs"]]
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["source"] = reduce_paths(cell["source"])
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def require_complete(path: Path, cells: list[dict[str, Any]]) -> None:
    """ReportError for a code cell that raised an exception, or that papermill says it has not completed."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        said = cell["metadata"].get("papermill", {})
        raised = said.get("exception") or any(each["output_type"] == "error" for each in cell["outputs"])
        status = said.get("status", "completed")
        if raised or status != "completed":
            what = "raised an exception" if raised else f"is {status}"
            raise ReportError(
                f"{path} was not run to its end, code cell {number} of {len(code)} {what}: run it again"
            )


def _tidied(output: dict[str, Any]) -> dict[str, Any]:
    """One output with its texts reduced; an image's letters would be taken for paths."""
    data = {
        kind: reduce_paths(content) if kind.startswith("text/") else content
        for kind, content in output.get("data", {}).items()
    }
    texts = {"text": reduce_paths(output["text"])} if "text" in output else {}
    return output | texts | ({"data": data} if "data" in output else {})

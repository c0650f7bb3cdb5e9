"""Records in the words of others: a model card's model-index, a hub's evaluation results, mmyolo's metafile.

python -m yolov9bench export --form model-index                    # every figure of the table
python -m yolov9bench export --form metafile RECORD --not-comparable --out metafile.yml
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from yolov9bench import records
from yolov9bench.errors import ReportError
from yolov9bench.records.comparability import row_of
from yolov9bench.records.evidence import GIBIBYTE, Evidence, evidence
from yolov9bench.report.exportable import Figure
from yolov9bench.report.table import section_of
from yolov9bench.zoo.rows import ROWS, Row

Form = Literal["model-index", "eval-results", "metafile"]

TOOL = "yolov9bench"
HEAD = f"# Measured by {TOOL} and not verified by anyone else. AP in percent.\n"
# Their names in model cards, after torchmetrics' mean average precision.
METRIC_TYPES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "APs": "map_small",
    "APm": "map_medium",
    "APl": "map_large",
}


def render(
    form: Form,
    figures: Sequence[Figure],
    results_dir: Path,
    source: str | None = None,
    dataset_id: str | None = None,
    task_id: str | None = None,
) -> str:
    """The figures in one of the forms; see `model_index`, `evaluation_results` and `metafile`."""
    if form == "metafile":
        return metafile(figures, results_dir)
    if form == "model-index":
        return model_index(figures, source)
    return evaluation_results(figures, str(dataset_id), task_id, source)


def model_index(figures: Iterable[Figure], source: str | None = None) -> str:
    """The `model-index` of a model card's metadata, a model an entry; `source`: the records' address.

    The fields are those of the Hugging Face Hub's model cards. `verified` is its own word and left out.
    """
    models: dict[str, list[dict[str, Any]]] = {}
    for each in figures:
        result = {
            "task": {"type": "object-detection", "name": "Object Detection"},
            "dataset": {"type": "other" if each.reasons else "coco", "name": each.dataset},
            "metrics": _metrics(each),
        }
        models.setdefault(each.model, []).append(result | _source(source))
    return _as_yaml({"model-index": [{"name": name, "results": found} for name, found in models.items()]})


def _metrics(figure: Figure) -> list[dict[str, Any]]:
    """Every AP that is defined, named by its record and weights."""
    found = []
    for name, kind in METRIC_TYPES.items():
        value = getattr(figure.stated.values, name)
        if value is not None and value >= 0:
            title = f"{figure.column.replace('AP', name)}, {figure.conditions}"
            known = {"record": figure.file, "weights_sha256": figure.stated.inputs.weights_sha256}
            found.append({"type": kind, "name": title, "value": _percent(value), "args": known})
    return found


def evaluation_results(
    figures: Sequence[Figure], dataset_id: str, task_id: str | None = None, source: str | None = None
) -> str:
    """The entries of a file in a model's `.eval_results/`, with the AP of each record.

    dataset_id, task_id: a benchmark of the hub and its task. ReportError for records of several models, whose
    entries belong into the repositories of each.
    """
    models = sorted({each.model for each in figures})
    if len(models) > 1:
        raise ReportError(
            f"eval-results are of one model, not of {', '.join(models)}: name the records of one"
        )
    entries = []
    for each in figures:
        known = {"id": dataset_id} | ({"task_id": task_id} if task_id else {})
        entry = {"dataset": known, "value": _percent(each.ap), "date": each.record.start[:10]}
        weights = f"weights {each.stated.inputs.weights_sha256}"
        notes = f"{each.column} on {each.dataset}, {each.conditions}; {each.file}; {weights}"
        entries.append(entry | _source(source) | {"notes": notes})
    return _as_yaml(entries)


def metafile(figures: Iterable[Figure], results_dir: Path) -> str:
    """Collections and models as in mmyolo's metafile.yml, with AP to a tenth of a percent.

    Training memory is of the measurements in `results_dir`; predicted and published memory have names of
    their own. ReportError for a record of no row.
    """
    rows: dict[str, list[Figure]] = {}
    for each in figures:
        if row_of(each.record) is None:
            raise ReportError(f"{each.file} is of no row, which a metafile lists: choose another form")
        rows.setdefault(str(each.record.row), []).append(each)
    collections = {section_of(ROWS[row_id]): ROWS[row_id] for row_id in reversed(rows)}
    measured = evidence(records.select(results_dir))
    models = [_model(ROWS[row_id], found, measured[row_id]) for row_id, found in rows.items()]
    named = [_collection(name, row) for name, row in reversed(collections.items())]
    return _as_yaml({"Collections": named, "Models": models})


def _model(row: Row, figures: Iterable[Figure], measured: Evidence) -> dict[str, Any]:
    entry = {
        "Name": Path(row.config).stem if row.config else row.id,
        "In Collection": section_of(row),
        "Config": row.config,
        "Metadata": _metadata(row, measured),
        "Results": [_result(each) for each in figures],
        "Weights": row.download.url,
    }
    return {name: value for name, value in entry.items() if value}


def _collection(name: str, row: Row) -> dict[str, Any]:
    """How the rows of a part of the table were trained, as far as it is known."""
    trained: dict[str, Any] = {"Training Data": "COCO"}
    if row.recipe is not None:
        run, optimizer = row.recipe.run, row.recipe.optimizer
        nesterov = " with Nesterov" if optimizer.algorithm == "sgd" and optimizer.nesterov else ""
        techniques = [{"sgd": "SGD", "adamw": "AdamW"}[optimizer.algorithm] + nesterov, "Weight Decay"]
        techniques += ["AMP"] if run.amp else []
        techniques += ["Synchronize BN"] if run.syncbn else []
        trained |= {"Training Techniques": techniques, "Training Resources": f"{run.gpus} GPUs"}
    return {"Name": name, "Metadata": trained}


def _metadata(row: Row, found: Evidence) -> dict[str, Any]:
    """Memory of a training step, measured in GB of 10^9 bytes, and the epochs of the recipe."""
    measured, predicted = found.memory_measured, found.memory_predicted
    values = {
        "Training Memory (GB)": None if measured is None else round(measured * GIBIBYTE / 1e9, 1),
        "Predicted Training Memory (GiB)": None if predicted is None else round(predicted, 1),
        "Published Training Memory (GB)": row.published.memory_gb,
        "Epochs": row.recipe.run.epochs if row.recipe else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _result(figure: Figure) -> dict[str, Any]:
    return {
        "Task": "Object Detection",
        "Dataset": figure.dataset if figure.reasons else "COCO",
        "Metrics": {figure.column: round(_percent(figure.ap), 1)},
        "Conditions": figure.conditions,
        "Record": figure.file,
        "Weights SHA256": figure.stated.inputs.weights_sha256,
    }


def _percent(fraction: float) -> float:
    return round(100 * fraction, 3)


def _source(address: str | None) -> dict[str, Any]:
    return {} if address is None else {"source": {"name": TOOL, "url": address}}


def _as_yaml(content: Any) -> str:
    return HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1_000)

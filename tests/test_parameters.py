"""ReproduceConfig: what a notebook hands over is checked before anything runs."""

import re
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from yolov9bench.config import (
    Config,
    ReproduceConfig,
    SpeedConfig,
    config_from,
    parameters_from,
    project_root,
)
from yolov9bench.errors import SettingsError

FOLDER = Path(__file__).parents[1] / "notebooks"


def test_a_misspelt_name_is_refused_with_the_likely_one() -> None:
    with pytest.raises(SettingsError, match=r"no parameter 'sizee'; did you mean 'size'\?"):
        ReproduceConfig.from_names({"sizee": "m"})


def test_a_name_like_no_other_lists_them_all() -> None:
    with pytest.raises(SettingsError, match=r"'xyzzy'.*choose one of family, size"):
        ReproduceConfig.from_names({"xyzzy": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 1), ("limit", "8"), ("mask_refine", "yes"), ("batch_size", True), ("judge", 1)],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{name} is {value!r}"):
        ReproduceConfig.from_names({name: value})


def test_a_notebooks_globals_give_its_plain_values() -> None:
    namespace = {"size": "c", "limit": None, "_hidden": 3, "re": re, "open": open, "__name__": "__main__"}
    assert parameters_from(namespace) == ReproduceConfig(size="c")


@pytest.mark.parametrize(("name", "config"), [("reproduce", ReproduceConfig), ("speed", SpeedConfig)])
def test_the_notebooks_parameter_cell_is_the_dataclass(name: str, config: type[Config]) -> None:
    """Same names, same order, same defaults: nothing can be set in one and not in the other."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    namespace: dict[str, object] = {}
    exec(cell.source, namespace)
    given = {name: value for name, value in namespace.items() if not name.startswith("_")}
    assert given == {field.name: field.default for field in fields(config)}
    assert all("  # " in line for line in cell.source.splitlines()), "every parameter needs a comment"
    assert config_from(namespace, config) == config()


def test_default_folders_hang_on_the_project_and_given_ones_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_root() == tmp_path
    assert ReproduceConfig().results_folder == tmp_path / "results"
    assert ReproduceConfig(data_dir="here").data_folder == Path("here")

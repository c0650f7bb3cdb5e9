"""ReproduceConfig as notebooks, numpy and paths give them: each is taken or refused, none is passed over."""

import logging
import re
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from yolov9bench import __main__ as door
from yolov9bench import sweep
from yolov9bench.config import PredictConfig, ReproduceConfig, SweepConfig, parameters_from
from yolov9bench.errors import SettingsError
from yolov9bench.train import trainer
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import train_row
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.toml_values import as_value, read_toml

FOLDER = Path(__file__).parents[1] / "notebooks"
WAYS = [parameters_from, ReproduceConfig.from_names, lambda given: ReproduceConfig(**given)]


@pytest.mark.parametrize("take", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("checkpoint", Path("mine.pt"), "mine.pt"),
        ("dataset", np.str_("mine"), "mine"),
        ("limit", np.int64(5), 5),
        ("limit", np.uint8(5), 5),
        ("seed", np.array(3), 3),
        ("seed", torch.tensor(3), 3),
        ("judge", np.bool_(False), False),
    ],
)
def test_a_path_and_a_value_of_numpy_are_taken(
    take: Callable[[dict[str, Any]], ReproduceConfig], name: str, value: Any, expected: Any
) -> None:
    found = getattr(take({name: value}), name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("take", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit", [2], r"limit is \[2\], a list: give int or None"),
        ("limit", np.array([2]), r"limit is array\(\[2\]\), a ndarray"),
        ("limit", np.float64(5), r"limit is np\.float64\(5\.0\), a float64"),
        ("limit", Fraction(5, 1), "a Fraction"),
        ("limit", Path("5"), "a PosixPath|a WindowsPath"),
        ("limit", np.bool_(True), "a bool"),
        ("judge", np.int64(1), "a int64: give bool"),
        ("split", date(2017, 1, 1), r"split is datetime\.date\(2017, 1, 1\), a date: give str"),
        ("split", {"val": 2017}, "a dict"),
        ("split", None, "a NoneType"),
        ("device", torch, "device is <module 'torch'.*a module"),
        ("device", print, "a builtin_function_or_method"),
        ("seed", -1, "seed is -1: give 0 or more"),
    ],
)
def test_a_value_of_no_parameters_type_is_refused(
    take: Callable[[dict[str, Any]], ReproduceConfig], name: str, value: Any, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        take({name: value})


def test_a_long_value_is_cut_to_one_line() -> None:
    with pytest.raises(SettingsError) as refusal:
        ReproduceConfig(limit=np.zeros((20, 20)))  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 120 and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "value", [[0, 1], {"a": 1}, (1,), {1}, date(2026, 1, 1), Path("x"), np.int64(1), b"x", np.zeros(3)]
)
def test_an_unknown_name_is_refused_whatever_its_value(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"no parameter 'datasets'; did you mean 'dataset'\?"):
        parameters_from({"datasets": value})


class Shell:
    """An IPython shell whose cells run one after the other, as in a live notebook."""

    def __init__(self) -> None:
        self.shell = InteractiveShell()  # type: ignore[no-untyped-call]

    def run(self, *cells: str) -> Any:
        """What the last cell's last expression gave."""
        for cell in cells:
            done = self.shell.run_cell(cell, store_history=True)  # type: ignore[no-untyped-call]
            done.raise_error()
        return done.result


HEAD = 'size: str = "t"  # a comment\nlimit: int = None'
ASKING = (
    "import logging, sys\nfrom pathlib import Path\nfrom yolov9bench.config import parameters_from\n"
    "%config InteractiveShell.autocall = 0\n"  # a magic, as the notebooks have
    "parameters_from(globals())"
)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(HistoryManager, "enabled", False)  # writes no file
    return Shell()


def test_a_fresh_shell_has_nothing_that_looks_like_a_parameter(shell: Shell) -> None:
    assert shell.run(HEAD, ASKING) == ReproduceConfig(size="t")
    assert {"In", "Out", "get_ipython", "exit", "quit"} <= set(shell.shell.user_ns)


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("# ReproduceConfig\nlimit = [1]", r"limit is \[1\], a list"),
        ("# ReproduceConfig\nlabels = [0, 1]", "no parameter 'labels'"),
        ("from pathlib import Path\ndatasets = Path('mine')", r"'datasets'; did you mean 'dataset'\?"),
        ("limit, splitt = 3, {'a': 1}", r"'splitt'; did you mean 'split'\?"),
    ],
)
def test_a_shell_refuses_what_a_parameters_cell_holds(shell: Shell, injected: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        shell.run(HEAD, injected, ASKING)


def test_running_all_cells_again_is_not_refused_for_what_later_cells_left(shell: Shell) -> None:
    later = "shown = [1, 2]; truth = {'images': []}\nplace = Path('record.json')\ndone = {1: object()}"
    assert shell.run(HEAD, ASKING, later, HEAD + "\nlimit = 4", ASKING) == ReproduceConfig(size="t", limit=4)
    with pytest.raises(SettingsError, match=r"'splits'; did you mean 'split'\?"):
        shell.run(HEAD + "\nsplits = ['a']", ASKING)


@pytest.mark.parametrize("name", ["protocol", "reproduce", "train"])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"limit": [1]}, "limit is [1], a list"), ({"labels": [0, 1]}, "no parameter 'labels'")],
)
def test_papermills_lists_stop_the_first_cell(
    name: str, given: dict[str, Any], sentence: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cells that papermill would run, but in a shell of this process: a kernel takes seconds to start."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # it would stay for the tests that follow
    source = load_notebook_node(str(FOLDER / f"{name}.ipynb"))
    notebook = parameterize_notebook(source, given, kernel_name="python3", language="python")
    parameters, injected, first, *_ = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert all(repr(value) in injected for value in given.values())
    without_magics = "\n".join(line for line in first.splitlines() if not line.startswith("%"))
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        shell.run(parameters, injected, without_magics)


@pytest.mark.parametrize(
    ("name", "own", "usual"),
    [
        ("train", "train_split", ReproduceConfig(size="t")),
        ("protocol", "skip_corrupt", ReproduceConfig()),
    ],
)
def test_the_other_notebooks_cells_have_parameters_with_their_types(
    name: str, own: str, usual: ReproduceConfig
) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    namespace: dict[str, Any] = {}
    exec(cell.source, namespace)
    assert own in namespace
    assert parameters_from(namespace) == usual


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "float8"}, r"no precision 'float8'; did you mean 'float16'|did you mean 'float32'"),
        ({"max_steps": 0}, "max_steps is 0: give 1 or more"),
        ({"max_steps": "3"}, "max_steps is '3'"),
        ({"batch_size": [2]}, r"batch_size is \[2\], a list"),
        ({"dataset": 5}, "dataset is 5, a int"),
    ],
)
def test_a_training_refuses_values_before_it_reads_anything(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        train_row(**{"row": "yolov9-t", "dataset": "/nowhere", "out": Path("/nowhere/run"), **given})


def test_a_training_takes_texts_for_paths_and_numbers_of_numpy(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "annotations/instances_train.json").write_bytes(
        (tiny / "annotations/instances_val.json").read_bytes()
    )
    (tiny / "train").mkdir()
    for image in (tiny / "val").iterdir():
        (tiny / "train" / image.name).write_bytes(image.read_bytes())
    seen: list[Job] = []
    monkeypatch.setattr(trainer, "train", seen.append)
    numbers: dict[str, Any] = {
        "epochs": np.int64(2),
        "batch_size": np.int32(3),
        "max_steps": np.int64(4),
        "seed": np.int64(5),
    }
    first = tmp_path / "first.pt"
    first.touch()
    train_row("yolov9-t", tiny, str(tmp_path / "run"), split="val", start=str(first), **numbers)
    (job,) = seen
    assert (job.out, job.start) == (tmp_path / "run", first)
    found = (job.recipe.run.epochs, job.batch_size, job.max_steps, job.seed)
    assert found == (2, 3, 4, 5) and {type(number) for number in found} == {int}


def test_a_sweep_hands_paths_on_as_texts_and_refuses_a_name_that_is_set_twice() -> None:
    given = {"results_dir": Path("out/001"), "limit": np.int64(8)}
    found = sweep.parameters_of(ROWS["yolov9-t"], given)
    assert (found["results_dir"], found["limit"]) == ("out/001", 8)
    assert type(found["results_dir"]) is str and type(found["limit"]) is int
    with pytest.raises(SettingsError, match="limit is set twice, to 4 and '8'"):
        sweep.parse_assignments(["limit=4", "judge=false", "limit=8"])


def test_a_second_flag_of_a_sweep_does_not_replace_the_first() -> None:
    words = ["sweep", "--rows", "yolov9-t", "--set", "limit=4", "--rows", "yolov9-s", "--set", "seed=1"]
    config = door.parse(words)
    assert isinstance(config, SweepConfig)
    assert (config.patterns, config.assignments) == (("yolov9-t", "yolov9-s"), ("limit=4", "seed=1"))
    alone = door.parse(words[:3])
    assert isinstance(alone, SweepConfig) and alone.assignments == ()


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: PredictConfig((Path("x.png"),), "yolov9-t", score_threshold=10**400),
            "score_threshold is 100",
        ),
        (lambda: ReproduceConfig(limit=10**5000), "limit is a int that cannot be shown: give"),
        (lambda: ReproduceConfig(limit=-(10**400)), "limit is -1000"),
        (lambda: ReproduceConfig(limit=Unshowable()), "limit is a Unshowable that cannot be shown"),  # type: ignore[arg-type]
    ],
)
def test_values_that_no_float_or_page_can_hold_are_refused_by_name(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        make()
    assert said in str(refused.value) and len(str(refused.value)) < 200


def test_a_table_nested_without_an_end_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "row.toml").write_text("a = " + "[" * 10**5)
    with pytest.raises(SettingsError, match=r"row\.toml is not valid TOML"):
        read_toml(tmp_path / "row.toml")
    assert as_value(float, 3, "x") == 3.0
    with pytest.raises(SettingsError, match=r"x is 1000.*: give a number"):
        as_value(float, 10**400, "x")

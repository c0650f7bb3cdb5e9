"""Checkpoints as users have them: behind wrappers, in containers, among other objects.

Each must give the very tensors that were put in, or be refused. The networks are narrow ones, each the only
candidate of its format, so that a file loads at once.
"""

import datetime
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from synthetic import foreign_class, foreign_tensors, narrowed
from torch import Tensor, nn

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import build
from yolov9bench.weights import identify, load
from yolov9bench.weights.names import Format
from yolov9bench.zoo.specs import SPECS, Spec

Tensors = Mapping[str, Tensor]
NAMES = ["cat", "dog", "bird"]
SPEC_OF: dict[Format, Spec] = {
    "ultralytics": narrowed(SPECS["yolov8-n"], 4),
    "mmyolo": narrowed(SPECS["yolov8-n"], 4),
    "official": narrowed(SPECS["gelan-t"], 4),
    "multimediatechlab": narrowed(SPECS["yolov9-t"], 4),
}
ULTRALYTICS = "ultralytics.nn.tasks.DetectionModel"
OFFICIAL = "models.yolo.DetectionModel"
STEM = "model.0.conv.weight"


@pytest.fixture(scope="module")
def known() -> dict[Format, Tensors]:
    """The tensors of a network for three classes in each format."""
    return {form: foreign_tensors(build(spec, classes=3), form) for form, spec in SPEC_OF.items()}


@pytest.fixture(autouse=True)
def _narrow_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "CANDIDATES", {form: (spec,) for form, spec in SPEC_OF.items()})


def require_same(path: Path, form: Format, expected: Tensors) -> str:
    """Load a file, compare every tensor to the bit, and return the flavour."""
    found = load(path, training=True)
    assert (found.format, found.spec) == (form, SPEC_OF[form])
    tensors = foreign_tensors(found.detector, form)
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(tensors[key], value), key
    assert all(parameter.requires_grad for parameter in found.detector.parameters())
    return found.flavour


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert path.name in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "prefix"),
    [
        ("ultralytics", "module."),
        ("ultralytics", "_orig_mod."),
        ("ultralytics", "model."),  # of the YOLO object
        ("ultralytics", "model._orig_mod."),
        ("ultralytics", "module._orig_mod.model."),
        ("official", "_orig_mod.module."),
        ("mmyolo", "module."),
        ("multimediatechlab", "model."),
        ("multimediatechlab", "module.model.model."),
    ],
)
def test_prefixes(tmp_path: Path, known: dict[Format, Tensors], form: Format, prefix: str) -> None:
    torch.save({prefix + key: value for key, value in known[form].items()}, tmp_path / "file.pt")
    assert require_same(tmp_path / "file.pt", form, known[form]) == "plain"


def test_the_layers_alone(tmp_path: Path, known: dict[Format, Tensors]) -> None:
    """The state dict of `model.model`: numbers alone, which MultimediaTechLab's files have too."""
    for form in ("ultralytics", "official"):
        bare = {key.removeprefix("model."): value for key, value in known[form].items()}
        torch.save(bare, tmp_path / "file.pt")
        require_same(tmp_path / "file.pt", form, known[form])


def test_a_key_with_and_without_its_prefix(tmp_path: Path, known: dict[Format, Tensors]) -> None:
    """Which of the two is meant is not guessed."""
    twice = {**known["ultralytics"], f"module.{STEM}": torch.zeros(4, 3, 3, 3)}
    torch.save(twice, tmp_path / "file.pt")
    assert f"has {STEM} twice, with and without a prefix" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("entry", "form"),
    [
        ("model_state_dict", "ultralytics"),
        ("net", "mmyolo"),
        ("weights", "multimediatechlab"),
        ("state_dict", "ultralytics"),
        ("model", "ultralytics"),
        ("ema", "ultralytics"),
    ],
)
def test_containers(tmp_path: Path, known: dict[Format, Tensors], entry: str, form: Format) -> None:
    """Among what a training script saves beside the weights, dates and queues included."""
    others: dict[str, Any] = {
        "epoch": 7,
        "date": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "lasted": datetime.timedelta(hours=3),
        "losses": deque([1.5, 1.25], maxlen=10),
        "counts": defaultdict(list, a=[1, 2]),
        "args": OrderedDict(lr=0.01, ids=frozenset({1}), layers=range(3)),
        "optimizer": {"state": {}, "param_groups": [{"lr": torch.tensor(0.01)}]},
        "names": NAMES,
    }
    state = OrderedDict((f"module.{key}", value) for key, value in known[form].items())
    torch.save({**others, entry: state}, tmp_path / "file.pt")
    assert require_same(tmp_path / "file.pt", form, known[form]) == "state-dict"
    assert load(tmp_path / "file.pt").names == dict(enumerate(NAMES))


def test_the_average_of_two_state_dicts(tmp_path: Path, known: dict[Format, Tensors]) -> None:
    live = {key: value + 1 for key, value in known["ultralytics"].items()}
    torch.save({"model": live, "ema": {"module": dict(known["ultralytics"])}}, tmp_path / "file.pt")
    require_same(tmp_path / "file.pt", "ultralytics", known["ultralytics"])
    assert load(tmp_path / "file.pt").dropped[0] == "model"


@pytest.mark.parametrize(
    ("name", "form", "flavour"), [(ULTRALYTICS, "ultralytics", "module"), (OFFICIAL, "official", "gelan")]
)
def test_bare_modules(
    tmp_path: Path, known: dict[Format, Tensors], name: str, form: Format, flavour: str
) -> None:
    """`torch.save(model)`, and the same from inside DataParallel; without gradients, as files keep them."""
    with foreign_class(name) as make:
        module = make(known[form], names=NAMES)
        torch.save(module, tmp_path / "bare.pt")
        torch.save({"model": nn.DataParallel(module)}, tmp_path / "parallel.pt")
    for file in ("bare.pt", "parallel.pt"):
        found = require_same(tmp_path / file, form, known[form])
        assert found == (flavour if file == "bare.pt" or form == "official" else "stripped")
        assert load(tmp_path / file).names == dict(enumerate(NAMES))


def test_an_average_within_the_object_that_keeps_it(
    tmp_path: Path, known: dict[Format, Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = type("ModelEMA", (), {"__module__": "ultralytics.utils"})
    live = {key: value + 1 for key, value in known["ultralytics"].items()}
    with foreign_class("ultralytics.utils.Plain"), foreign_class(ULTRALYTICS) as make:
        monkeypatch.setitem(sys.modules, "ultralytics.utils", ModuleType("utils"))
        monkeypatch.setattr(sys.modules["ultralytics.utils"], "ModelEMA", keeper, raising=False)
        average = keeper()
        average.ema = make(known["ultralytics"], names=NAMES)
        torch.save({"model": make(live), "ema": average}, tmp_path / "file.pt")
        average.ema = None
        torch.save({"model": make(live), "ema": average}, tmp_path / "none.pt")
    require_same(tmp_path / "file.pt", "ultralytics", known["ultralytics"])
    assert load(tmp_path / "file.pt").dropped == ("model",)
    assert "has ultralytics.utils.ModelEMA as its 'ema'" in complaint(tmp_path / "none.pt")


def test_numbers_beyond_float32(tmp_path: Path, known: dict[Format, Tensors]) -> None:
    """1e200 is finite in float64 and infinite in the detector."""
    large = known["ultralytics"][STEM].double().clone()
    large[3, 1] = 1e200
    torch.save({**known["ultralytics"], STEM: large}, tmp_path / "file.pt")
    assert f"has NaN or infinity in {STEM} as float32" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize("key", [STEM, "model.22.dfl.conv.weight", "unknown"])
def test_expanded_tensors(tmp_path: Path, known: dict[Format, Tensors], key: str) -> None:
    """A few bytes that claim to be terabytes are refused before anything is copied."""
    claim = torch.zeros(1).expand(2**42)
    torch.save({**known["ultralytics"], key: claim}, tmp_path / "file.pt")
    assert f"has {key} with {2**42} numbers, of which it stores fewer" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize("value", [torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")])
def test_tensors_without_plain_storage(tmp_path: Path, known: dict[Format, Tensors], value: Tensor) -> None:
    torch.save({**known["ultralytics"], STEM: value}, tmp_path / "file.pt")
    complaint(tmp_path / "file.pt")


def test_text_of_a_file_is_escaped_and_cut(tmp_path: Path, known: dict[Format, Tensors]) -> None:
    """A key or name cannot write on the terminal, nor fill it."""
    evil = "model.0.\x1b[2J\nerror: none\u202e" + "x" * 200
    torch.save({**known["ultralytics"], evil: torch.zeros(1)}, tmp_path / "file.pt")
    sentence = complaint(tmp_path / "file.pt")
    assert r"has also 1 key (model.0.\x1b[2J\nerror: none\u202exxx" in sentence
    torch.save({**known["ultralytics"], "extra": 1}, tmp_path / "file.pt")
    require_same(tmp_path / "file.pt", "ultralytics", known["ultralytics"])
    torch.save({"net": dict(known["ultralytics"]), "names": {evil: "a"}}, tmp_path / "file.pt")
    assert r"labels model.0.\x1b[2J\n" in complaint(tmp_path / "file.pt")


def test_a_module_within_itself(tmp_path: Path) -> None:
    with foreign_class(ULTRALYTICS) as make:
        module = make({STEM: torch.zeros(3)})
        module._modules["inner"] = module
        torch.save({"model": module}, tmp_path / "file.pt")
    assert "has a module within itself" in complaint(tmp_path / "file.pt")

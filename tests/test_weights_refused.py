"""Files that must not load: each is refused in one sentence that names what is wrong, and none is obeyed."""

import builtins
import os
import pickle
import pickletools
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import foreign_class, foreign_tensors
from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import build
from yolov9bench.weights import load, save
from yolov9bench.zoo.specs import SPECS

Tensors = dict[str, Tensor]
STEM = "model.0.conv.weight"
DFL_KEY = "model.22.dfl.conv.weight"


@pytest.fixture(scope="module")
def sound() -> Mapping[str, Tensor]:
    """The tensors of a whole YOLOv8-n for three classes, as Ultralytics would name them."""
    return foreign_tensors(build(SPECS["yolov8-n"], classes=3), "ultralytics")


@pytest.fixture(scope="module")
def mtl() -> Mapping[str, Tensor]:
    return foreign_tensors(build(SPECS["yolov9-t"], classes=3), "multimediatechlab")


def complaint(path: Path, **options: bool) -> str:
    """The sentence with which a file is refused; it names the file."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    sentence = str(caught.value)
    assert path.name in sentence
    assert "\n" not in sentence
    return sentence


def complaint_of(folder: Path, content: Any, **options: bool) -> str:
    torch.save(content, folder / "file.pt")
    return complaint(folder / "file.pt", **options)


def test_the_sound_file_loads(tmp_path: Path, sound: Tensors) -> None:
    """So that what follows is refused for the fault it has, and not for another."""
    torch.save({**sound, DFL_KEY: torch.arange(16.0).reshape(1, 16, 1, 1)}, tmp_path / "file.pt")
    assert load(tmp_path / "file.pt").spec == SPECS["yolov8-n"]


def test_no_file(tmp_path: Path) -> None:
    assert "no checkpoint at" in complaint(tmp_path / "nowhere.pt")
    assert "is a folder, not a checkpoint: give the file in it" in complaint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_files_cut_short(tmp_path: Path, sound: Tensors, zipped: bool, share: float) -> None:
    path = tmp_path / "file.pt"
    torch.save(dict(sound), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "fetch it again" in complaint(path)


def test_an_archive_with_a_gap(tmp_path: Path, sound: Tensors) -> None:
    """As a transfer leaves it that was resumed at the wrong place: its end is there, a part is not."""
    path = tmp_path / "file.pt"
    torch.save(dict(sound), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:3000] + whole[3100:])
    assert "fetch it again" in complaint(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "holds a list, not a checkpoint"),
        (torch.zeros(3), "holds a Tensor, not a checkpoint"),
        ({}, "is in no known format (it holds no tensor at all)"),
        ({"fc.weight": torch.zeros(3)}, "is in no known format (it holds fc.weight)"),
        ({"state_dict": {"a": torch.zeros(1), "b": torch.zeros(1)}}, "in no known format (it holds a, b)"),
        ({"model": None, "ema": None}, "holds no network: its 'model' is NoneType and its 'ema' is empty"),
        ({"model": {STEM: torch.zeros(3)}}, "has the keys of the ultralytics format but fits none of"),
        ({"model": {"depth": 3}}, "holds no network: its 'model' is dict and its 'ema' is empty"),
        (
            {"net": {STEM: torch.zeros(3)}, "weights": {STEM: torch.ones(3)}},
            "several networks (net, weights)",
        ),
        ({"model": {STEM: torch.zeros(3)}, "ema": ({STEM: torch.zeros(3)}, 7)}, "has tuple as its 'ema'"),
    ],
)
def test_unknown_formats(tmp_path: Path, content: Any, expected: str) -> None:
    assert expected in complaint_of(tmp_path, content)


def test_a_network_that_is_not_ours(tmp_path: Path, sound: Tensors) -> None:
    """The format's keys, but other widths in every layer."""
    narrow = {key: value[::4, ::4] if value.ndim == 4 else value for key, value in sound.items()}
    sentence = complaint_of(tmp_path, narrow)
    assert "has the keys of the ultralytics format but fits none of yolov8-n, " in sentence


def test_mixed_formats(tmp_path: Path, sound: Tensors, mtl: Tensors) -> None:
    sentence = complaint_of(tmp_path, {**sound, "backbone.stem.conv.weight": torch.zeros(1)})
    assert "mixes the keys of mmyolo and ultralytics" in sentence
    assert "mixes the keys of multimediatechlab and ultralytics" in complaint_of(tmp_path, {**sound, **mtl})
    with foreign_class("models.yolo.DetectionModel") as make:
        content = {"model": make(sound, names=["a", "b", "c"])}
        torch.save(content, tmp_path / "file.pt")
    sentence = complaint(tmp_path / "file.pt")
    assert "its classes (models.yolo.DetectionModel) are official, its tensors ultralytics" in sentence


def test_missing_and_extra_keys_and_wrong_shapes_are_named(tmp_path: Path, sound: Tensors) -> None:
    last = "model.22.cv3.2.2.bias"
    missing = {key: value for key, value in sound.items() if key != last}
    assert f"lacks 1 key ({last})" in complaint_of(tmp_path, missing)
    extra = {**sound, "model.22.extra.bias": torch.zeros(3)}
    assert "has also 1 key (model.22.extra.bias)" in complaint_of(tmp_path, extra)
    sentence = complaint_of(tmp_path, {**sound, STEM: torch.zeros(16, 1, 3, 3)})
    assert f"has the wrong shape or type in 1 key ({STEM} is (16, 1, 3, 3), not (16, 3, 3, 3))" in sentence
    sentence = complaint_of(tmp_path, {**missing, "model.23.bias": torch.zeros(1)})
    assert f"lacks 1 key ({last}); has also 1 key (model.23.bias)" in sentence


def test_many_faults_are_counted(tmp_path: Path, sound: Tensors) -> None:
    without = {key: value for key, value in sound.items() if not key.endswith("num_batches_tracked")}
    sentence = complaint_of(tmp_path, without)
    counters = [key for key in sound if key not in without]
    assert f"lacks {len(counters)} keys ({', '.join(counters[:3])}, and {len(counters) - 3} more)" in sentence


def test_a_missing_class_branch(tmp_path: Path, sound: Tensors) -> None:
    without = {key: value for key, value in sound.items() if not key.startswith("model.22.cv3.")}
    assert "lacks the class branch of its head" in complaint_of(tmp_path, without)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", [STEM, "model.0.bn.running_var"])
def test_weights_of_a_diverged_training(tmp_path: Path, sound: Tensors, key: str, bad: float) -> None:
    value = sound[key].clone()
    value.view(-1)[-1] = bad
    assert f"has NaN or infinity in {key}" in complaint_of(tmp_path, {**sound, key: value})


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64])
def test_weights_that_are_no_real_numbers(tmp_path: Path, sound: Tensors, dtype: torch.dtype) -> None:
    assert STEM in complaint_of(tmp_path, {**sound, STEM: sound[STEM].to(dtype)})


def test_other_distribution_constants(tmp_path: Path, sound: Tensors) -> None:
    for constants in (torch.arange(1.0, 17.0), torch.arange(17.0), torch.zeros(16)):
        sentence = complaint_of(tmp_path, {**sound, DFL_KEY: constants})
        assert f"{DFL_KEY} is not 0..15" in sentence


@pytest.mark.parametrize("names", [["a"], {0: "a", 1: "b", 2: "c", 3: "d"}])
def test_names_of_another_network(tmp_path: Path, sound: Tensors, names: Any) -> None:
    with foreign_class("ultralytics.nn.tasks.DetectionModel") as make:
        torch.save({"model": make(sound, names=names)}, tmp_path / "file.pt")
    assert f"names {len(names)} classes but its head has 3" in complaint(tmp_path / "file.pt")


def test_names_without_labels(tmp_path: Path, sound: Tensors) -> None:
    with foreign_class("ultralytics.nn.tasks.DetectionModel") as make:
        torch.save({"model": make(sound, names={"a": "x", "b": "y", "c": "z"})}, tmp_path / "file.pt")
    complaint(tmp_path / "file.pt")


def test_another_activation(tmp_path: Path, sound: Tensors) -> None:
    """Same tensors, other function: a YOLOv8 can be configured to use ReLU, and its keys do not show it."""
    with foreign_class("ultralytics.nn.tasks.DetectionModel") as make:
        network = make(sound, names=["a", "b", "c"])
        network.get_submodule("model.0").add_module("act", torch.nn.ReLU())
        torch.save({"model": network}, tmp_path / "file.pt")
    assert "ReLU" in complaint(tmp_path / "file.pt")


def test_the_first_layout_of_multimediatechlab(tmp_path: Path, mtl: Tensors) -> None:
    old = {key.replace("22.heads.", "37.heads."): value for key, value in mtl.items()}
    sentence = complaint_of(tmp_path, old)
    assert "layout of before June 2024 (heads in layer 37)" in sentence


def test_a_folded_file_cannot_be_trained(tmp_path: Path) -> None:
    folded = build(SPECS["yolov8-n"], classes=3).deployed()
    expected = "has its BatchNorm folded away and cannot be trained"
    assert expected in complaint_of(tmp_path, foreign_tensors(folded, "ultralytics"), training=True)
    save(tmp_path / "own.pt", folded, names=None)
    assert expected in complaint(tmp_path / "own.pt", training=True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda own: own.pop("row"), "lacks row: it was written by another release"),
        (lambda own: own.update(version=2), "has version 2, not 1"),
        (lambda own: own["spec"].pop("pool"), "describes no network of ours (spec.pool is missing: give"),
        (
            lambda own: own["spec"].update(wings=2),
            "describes no network of ours (spec: there is no key 'wings'",
        ),
        (
            lambda own: own["spec"].update(stem=-8),
            "describes a network with stem -8, not 1 to 16384",
        ),
        (lambda own: own["state_dict"].pop("backbone.stem.conv.weight"), "(backbone.stem.conv.weight)"),
        (lambda own: own.update(names={0: "a"}), "names 1 classes but its head has 3"),
    ],
    ids=["lacking", "version", "spec lacking", "spec extra", "spec impossible", "key lacking", "names"],
)
def test_our_own_files(tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str) -> None:
    save(tmp_path / "own.pt", build(SPECS["yolov8-n"], classes=3), names=None)
    own = torch.load(tmp_path / "own.pt", weights_only=True)
    change(own)
    assert expected in complaint_of(tmp_path, own)


class Obeyed:
    """Pickles as a call, which any ordinary reader carries out."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def payloads(mark: Path) -> dict[str, Obeyed]:
    """Calls that would leave the file `mark`."""
    touch = f"touch {mark}"
    return {
        "posix.system": Obeyed(os.system, touch),
        "builtins.eval": Obeyed(builtins.eval, f"open({str(mark)!r}, 'w').close()"),
        "builtins.exec": Obeyed(builtins.exec, f"open({str(mark)!r}, 'w').close()"),
        "subprocess.Popen": Obeyed(subprocess.Popen, ["touch", str(mark)]),
        "posix.mkdir": Obeyed(os.mkdir, str(mark)),
    }


def test_the_payload_works(tmp_path: Path) -> None:
    """An ordinary reader does leave the mark, so its absence below means something."""
    pickle.loads(pickle.dumps(payloads(tmp_path / "mark")["posix.system"]))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("layout", ["zip", "stream", "pickle"])
@pytest.mark.parametrize("name", payloads(Path("mark")))
def test_no_code_runs(tmp_path: Path, sound: Tensors, name: str, layout: str) -> None:
    """The call hides among sound weights; the refusal names its function."""
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    content = {**sound, "extra": payloads(mark)[name]}
    if layout == "pickle":
        path.write_bytes(pickle.dumps({"extra": content["extra"]}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
    sentence = complaint(path)
    function = name.rpartition(".")[2]  # pickle names some modules as Python 2 did
    assert f".{function}, which no known checkpoint format needs: nothing was run" in sentence
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_no_code_runs_from_other_pickles(tmp_path: Path, protocol: int) -> None:
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    path.write_bytes(pickle.dumps(payloads(mark)["posix.system"], protocol=protocol))
    complaint(path)
    assert not mark.exists()


def zipped(path: Path, pickled: bytes) -> Path:
    """A checkpoint archive around a pickle written by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file/data.pkl", pickled)
        archive.writestr("file/version", "3\n")
        archive.writestr("file/byteorder", "little")
    return path


def called(function: bytes, argument: str) -> bytes:
    """Opcodes that push the function and call it with one text."""
    text = argument.encode()
    return function + b"(X" + len(text).to_bytes(4, "little") + text + b"tR"


@pytest.mark.parametrize(
    "function",
    [
        b"cos\nsystem\n",
        b"c__builtin__\neval\n",
        b"cultralytics.nn.tasks\nsystem\n",
        b"ctorch.nn.modules.module\nos.system\n",
        b"cmodels\nyolo.os.system\n",
        # getattr(os, "system"), with os found through a module of torch's own
        b"c__builtin__\ngetattr\n(ctorch.nn.modules.module\nos\nX\x06\x00\x00\x00systemtR",
    ],
    ids=["os", "Python 2", "borrowed name", "torch", "dotted name", "getattr"],
)
def test_no_code_runs_by_another_name(tmp_path: Path, function: bytes) -> None:
    """Names below the known libraries stand for nothing, whatever they would lead to."""
    mark = tmp_path / "mark"
    call = called(function, f"touch {mark}")
    for pickled in (b"\x80\x02" + call + b".", b"\x80\x02}X\x05\x00\x00\x00model" + call + b"s."):
        complaint(zipped(tmp_path / "file.pt", pickled))
        assert not mark.exists()


def test_no_code_runs_behind_the_weights(tmp_path: Path, sound: Tensors) -> None:
    """In a stream, a list of storages follows what was saved: a pickle of its own."""
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    torch.save({STEM: sound[STEM]}, path, _use_new_zipfile_serialization=False)
    with path.open("rb") as file:
        for _ in range(4):  # magic number, version, machine, content
            list(pickletools.genops(file))
        end = file.tell()
    hidden = b"\x80\x02" + called(b"cos\nsystem\n", f"touch {mark}") + b"."
    path.write_bytes(path.read_bytes()[:end] + hidden)
    complaint(path)
    assert not mark.exists()

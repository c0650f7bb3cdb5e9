"""What a user may get wrong is refused in a sentence before anything is fetched, drawn or trained."""

import os
from pathlib import Path
from typing import Any

import pytest

from yolov9bench import __main__ as door
from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.data import download
from yolov9bench.data.layouts import find_annotations
from yolov9bench.errors import DatasetError, SettingsError, require_writable
from yolov9bench.io.files import write_text
from yolov9bench.train.trainer import train_row

LONG = "a" * 300


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: Any) -> None:
        pytest.fail("something was fetched")

    monkeypatch.setattr(download, "coco", fetched)
    monkeypatch.setattr(download, "fetch", fetched)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "--row", "yolov9-t", "--dataset", "demo", "--out="], "--out"),
        (["train", "--row", "yolov9-t", "--dataset", "", "--out", "x"], "--dataset"),
        (["inspect", ""], "inspect"),
    ],
)
def test_an_empty_value_is_refused(words: list[str], name: str) -> None:
    """An empty path would be the working directory."""
    sentence = rf"^an empty value follows {name}: give one, or leave {name} out$"
    with pytest.raises(SettingsError, match=sentence):
        door.parse(words)


def test_an_empty_text_is_refused_in_a_notebook() -> None:
    with pytest.raises(SettingsError, match=r"^checkpoint is empty: give a value, or leave it out$"):
        ReproduceConfig(checkpoint="")


@pytest.mark.parametrize(
    "place", [LONG, f"not/there/{LONG}", "ü" * 127, "a\0b"], ids=["here", "below", "bytes", "NUL"]
)
def test_a_name_that_no_file_can_have_is_refused(place: str, tmp_path: Path) -> None:
    for folder in (False, True):
        with pytest.raises(SettingsError, match=r"^out .*(too long|of more than \d+ bytes|null byte)"):
            require_writable("out", tmp_path / place, folder)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_is_accepted_can_be_written(tmp_path: Path) -> None:
    """A file is written under a longer name first."""
    longest = max(count for count in range(200, 256) if _is_accepted(tmp_path / f"{'a' * (count - 5)}.json"))
    assert longest >= 230
    write_text(tmp_path / f"{'a' * (longest - 5)}.json", "{}")
    assert [len(path.name) for path in tmp_path.iterdir()] == [longest]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", LONG], r"^file 'a+…' cannot be a path"),
        (["verify", "--data-dir", LONG], r"^data_dir 'a+…' cannot be a path"),
        (["verify", "--results", "file"], r"^results file is a file: give a folder$"),
        (["report", "--check", "--results", "file"], r"^results file is a file: give a folder$"),
        (
            ["train", "--row", "yolov9-t", "--dataset", "demo", "--out", "run", "--data-dir", "file"],
            "data_dir",
        ),
    ],
)
def test_a_file_for_a_folder_and_a_name_too_long_are_refused(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SettingsError, match=sentence):
        door.run(door.parse(words))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_does_not_take_the_place_of_a_pipe(tmp_path: Path) -> None:
    """Nor that of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match=r"^json .*/pipe is a device or a pipe: choose another path$"):
        require_writable("json", tmp_path / "pipe")


def _is_accepted(path: Path) -> bool:
    try:
        require_writable("json", path)
    except SettingsError:
        return False
    return True


@pytest.mark.parametrize(("dataset", "split"), [(LONG, "val"), ("a\0b", "val"), (".", LONG)])
def test_data_sets_and_splits_that_no_path_can_name(dataset: str, split: str) -> None:
    with pytest.raises(SettingsError, match=r"^(dataset|split) .* cannot be a path"):
        find_annotations(Path(dataset), split)


@pytest.mark.parametrize("checkpoint", ["download", "train"])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"dataset": "coco", "split": "val2071"}, r"COCO 2017 has no split 'val2071' to fetch"),
        ({"dataset": "coco", "split": "val2017", "train_split": "train2071"}, "no split 'train2071'"),
        ({"dataset": "tiny", "split": "valid"}, r"There is no tiny/annotations/instances_valid.json"),
    ],
)
def test_splits_are_checked_before_weights_are_fetched(
    checkpoint: str, given: dict[str, Any], sentence: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    if checkpoint == "download" and "train_split" in given:
        reproduce.make_plan(ReproduceConfig(checkpoint=checkpoint, **given))  # of a training alone
        return
    with pytest.raises(DatasetError, match=sentence):
        reproduce.make_plan(ReproduceConfig(checkpoint=checkpoint, **given))
    if checkpoint == "train":
        with pytest.raises(DatasetError, match=sentence):
            train_row("yolov9-t", out="run", **given)
    assert not Path("run").exists()

"""Splits of a training: none learns on the images that it is validated on."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from yolov9bench import __main__ as door
from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.data.sources import choose_training_split
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.train import trainer
from yolov9bench.train.job import Job


def add_split(root: Path, name: str) -> None:
    """A split with the images of `val` under the same ids and names, as files of its own."""
    shutil.copytree(root / "val", root / name)
    shutil.copy(root / "annotations/instances_val.json", root / f"annotations/instances_{name}.json")


def training_split(split: str = "val2017", train_split: str = "auto", dataset: str = "auto") -> str:
    return choose_training_split(dataset, split, train_split)


def job(root: Path, split: str, train_split: str = "auto") -> Job:
    parameters = ReproduceConfig(
        size="t", checkpoint="train", dataset=str(root), split=split, train_split=train_split, device="cpu"
    )
    return reproduce.build_job(reproduce.make_plan(parameters))


@pytest.mark.parametrize(
    ("split", "train_split", "expected"),
    [
        ("val", "auto", "train"),
        ("val2017", "auto", "train2017"),
        ("valid", "auto", "train"),
        ("validation-1", "auto", "train-1"),
        ("val_of_interval", "auto", "train_of_interval"),  # only the beginning is replaced
        ("test", "train", "train"),
        ("val2017", "mine", "mine"),
    ],
)
def test_the_split_to_train_on(split: str, train_split: str, expected: str) -> None:
    assert training_split(split=split, train_split=train_split) == expected


def test_the_demo_set_has_one_split_to_train_on() -> None:
    """Whatever `split` says, which the demo set does not ask either."""
    assert training_split(dataset="demo", split="test") == "train"
    with pytest.raises(SettingsError, match="train_split is 'val': on the demo set give 'auto' or 'train'"):
        training_split(dataset="demo", train_split="val")


@pytest.mark.parametrize(
    ("split", "train_split", "message"),
    [
        ("test", "auto", "follows from split 'test', which does not begin with 'val': give train_split"),
        ("my_val", "auto", "follows from split 'my_val'"),
        ("test", "test", "train_split and split are both 'test'"),
    ],
)
def test_a_split_that_cannot_be_trained_on_is_refused_before_anything_is_read(
    split: str, train_split: str, message: str
) -> None:
    chosen = ReproduceConfig(
        size="t", checkpoint="train", dataset="/nowhere", split=split, train_split=train_split
    )
    with pytest.raises(SettingsError, match=message):
        reproduce.make_plan(chosen)


def test_other_images_under_the_same_ids_and_names_may_be_trained_on(tiny: Path) -> None:
    add_split(tiny, "train")
    made = job(tiny, "val")
    assert (made.train.split, made.validation.split) == ("train", "val")
    assert made.train.image_list_sha256 == made.validation.image_list_sha256


def link_folder(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").symlink_to(root / "val")


def link_two_files(root: Path) -> None:
    for name in ("000002.png", "000005.png"):
        (root / "train" / name).unlink()
    (root / "train/000002.png").symlink_to(root / "val/000002.png")
    os.link(root / "val/000005.png", root / "train/000005.png")


def point_elsewhere(root: Path) -> None:
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../val/000001.png"
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("share", "count"), [(link_folder, 6), (link_two_files, 2), (point_elsewhere, 1)])
def test_an_image_file_in_both_splits_is_refused(
    tiny: Path, share: Callable[[Path], None], count: int
) -> None:
    add_split(tiny, "train")
    share(tiny)
    message = f"'train' to train on and 'val' to validate on share {count} of 6 images"
    with pytest.raises(DatasetError, match=message):
        job(tiny, "val")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--split", "val"], "instances_train.json"),
        (["--split", "other"], "give train_split"),
        (["--split", "val", "--train-split", "val"], "both 'val'"),
    ],
)
def test_train_refuses_it_in_one_sentence(
    tiny: Path,
    tmp_path: Path,
    flags: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    words = ["train", "--row", "yolov9-t", "--dataset", str(tiny), "--out", str(out), "--max-steps", "1"]
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *words, *flags])
    assert door.main() == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not out.exists()


def test_train_takes_a_split_of_its_own(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_split(tiny, "mine")
    seen: list[Job] = []
    monkeypatch.setattr(trainer, "train", seen.append)
    words = ["train", "--row", "yolov9-t", "--dataset", str(tiny), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *words, "--split", "val", "--train-split", "mine"])
    assert door.main() == 0
    assert (seen[0].train.split, seen[0].validation.split) == ("mine", "val")

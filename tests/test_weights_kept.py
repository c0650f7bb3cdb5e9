"""Which network a file is taken for: a share of a known one is not enough, and our own files say it."""

from pathlib import Path

import pytest
import torch
from small_runs import SPEC
from synthetic import foreign_tensors, lively

from yolov9bench.errors import CheckpointError
from yolov9bench.weights import load, save
from yolov9bench.zoo.specs import SPECS


def test_a_network_with_half_of_the_shapes_of_a_known_one_is_none_of_them(tmp_path: Path) -> None:
    """A yolov8-n whose backbone is as it should be and whose pyramid has other widths."""
    tensors = foreign_tensors(lively(SPECS["yolov8-n"], classes=3), "ultralytics")
    stranger = {
        key: value[: len(value) // 2] if value.ndim == 4 and int(key.split(".")[1]) >= 6 else value
        for key, value in tensors.items()
    }
    assert 0 < sum(value is tensors[key] for key, value in stranger.items()) < len(tensors)
    torch.save(stranger, tmp_path / "stranger.pt")
    with pytest.raises(
        CheckpointError, match="has the keys of the ultralytics format but fits none of yolov8-n"
    ):
        load(tmp_path / "stranger.pt")


def test_our_own_file_that_calls_itself_folded_and_is_not_is_refused(tmp_path: Path) -> None:
    """The two ways to tell contradict one another: nothing is guessed."""
    path = tmp_path / "own.pt"
    save(path, lively(SPEC, classes=2), None)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"fused": True}, path)
    with pytest.raises(CheckpointError, match=r"own\.pt.*(running_mean|has also)"):
        load(path)

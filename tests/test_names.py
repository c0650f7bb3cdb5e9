"""Names that every system can have, and what becomes of others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolov9bench import inference
from yolov9bench.io.names import name_fault, portable_name
from yolov9bench.zoo import ROWS

# As Microsoft's "Naming Files, Paths, and Namespaces" lists them.
DEVICES = ["CON", "PRN", "AUX", "NUL", *(f"COM{n}" for n in range(1, 10)), *(f"LPT{n}" for n in range(1, 10))]


@pytest.mark.parametrize("device", DEVICES)
def test_devices_of_windows_are_refused_in_any_case_and_with_any_suffix(device: str) -> None:
    for name in (
        device,
        device.lower(),
        device.title(),
        f"{device}.json",
        f"{device.lower()}.tar.gz",
        f"{device} .x",
    ):
        assert name_fault(name) == "the name of a device on Windows", name
        assert name_fault(portable_name(name, ".png")) is None
    assert name_fault(f"{device}X") is None and name_fault(f"my-{device}") is None


@pytest.mark.parametrize("letter", [*'<>:"/\\|?*', "\0", "\n", "\x1f"])
def test_letters_that_not_every_system_allows(letter: str) -> None:
    assert name_fault(f"a{letter}b") == f"with {letter!r} in it, which not every system allows"
    assert portable_name(f"a{letter}b", ".png") == "a_b.png"


@pytest.mark.parametrize("name", ["a.", "a ", "...", " ", "", ".", ".."])
def test_ends_that_windows_leaves_out(name: str) -> None:
    assert name_fault(name) is not None
    assert name_fault(portable_name(name, ".png")) is None


@pytest.mark.parametrize("letter", ["x", "é", "\N{GOTHIC LETTER AHSA}"])
def test_long_names_are_cut_between_letters(letter: str) -> None:
    name = portable_name(letter * 250, ".png")
    assert name_fault(name) is None and set(name.removesuffix(".png")) == {letter}
    assert 190 < len(name.encode()) <= 204


def test_a_name_that_is_no_text_becomes_one() -> None:
    name = portable_name("a\udcff", ".png")
    assert name == "a_.png" and name_fault("a\udcff") is not None
    assert portable_name("a" * 199 + ". b", ".png") == "a" * 199 + ".png"


def test_usual_names_stay() -> None:
    for name in (*ROWS, "custom", "evaluate-2026-01-01-0123abcd.json", ".hidden", "été", "a b", "a.b"):
        assert name_fault(name) is None and portable_name(name, ".png") == f"{name}.png"


def test_images_with_such_names_are_written_under_others(tiny_weights: Path, tmp_path: Path) -> None:
    """Two that differ in case alone are two files too, where names have no case."""
    names = ["a:b.png", "nul.png", "one.png", "ONE.png", f"{'x' * 251}.png", f"{'x' * 250}y.png"]
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.full((40, 40, 3), 100, np.uint8))
    images = [tmp_path / name for name in names]
    list(
        inference.write_predictions(images, str(tiny_weights), tmp_path / "out", image_size=64, device="cpu")
    )
    found = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    long = "x" * 200
    assert found == ["ONE-4.png", "_nul.png", "a_b.png", "one.png", f"{long}-6.png", f"{long}.png"]

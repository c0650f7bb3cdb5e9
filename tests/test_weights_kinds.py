"""Files of other kinds, each refused for what it is: their first bytes as their own formats describe them."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights import load
from yolov9bench.zoo.rows import ROWS, find_row, remedy_for_missing

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
COCO = json.dumps({"info": {}, "licenses": [], "images": [{"id": 1}], "annotations": []})


def complaint(path: Path) -> str:
    """One sentence, which gives none of the remedies that would do harm or lead nowhere."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    sentence = str(caught.value)
    assert path.name in sentence and sentence.isprintable()
    for wrong in ("weights_only", "mixes", "leave it out", "add_safe_globals"):
        assert wrong not in sentence
    return sentence


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty: fetch it again"),
        (b"\x80", "is cut short after its first bytes: fetch it again"),
        (b"\x80\x02\x8a\x0al", "is cut short after its first bytes: fetch it again"),
        (b"PK", "is cut short after its first bytes: fetch it again"),
        (b"PK\x03\x04" + bytes(50), "is cut short, its end is missing: fetch it again"),
        (
            POINTER.encode(),
            "is a Git LFS pointer, not the file that it stands for: fetch it again, with git lfs",
        ),
    ],
)
def test_files_to_fetch_again(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    assert expected in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"<!DOCTYPE html><html>404</html>",
            "is a web page, not the file that was asked for: open its address",
        ),
        (b"\xef\xbb\xbf\n <HTML lang='en'>", "is a web page"),
        (COCO.encode(), "is a JSON file in COCO's format: give a checkpoint here"),
        (b'[{"image_id": 1, "category_id": 2}]', "is a JSON file in COCO's format"),
        (b'{"a": 1}', "is a JSON file: give the checkpoint itself"),
        (b"nc: 80\nbackbone:\n", r"is a text file (it begins with 'nc: 80\nbackbone:')"),
        ("Größe\n".encode() * 20_000, "is a text file"),  # a letter is cut in half where reading ends
        (
            b"<?xml version='1.0'?>\n<net name='Model0' version='11'>",
            "is an OpenVINO model: give the PyTorch",
        ),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x00", "is an ONNX model: give the PyTorch checkpoint"),
        (b"\x08\x07\x3a\x05\x0a\x03abc", "is an ONNX model"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "is a TFLite model: give the PyTorch checkpoint"),
        (b"ftrt\x00\x00\x00\x00", "is a TensorRT engine: give the PyTorch checkpoint"),
        (b'\x20\x00\x00\x00{"description": "a"}', "is a TensorRT engine"),
        (b"\x89HDF\r\n\x1a\n", "is a Keras or HDF5 file"),
        (b"7767517\n203 240\n", "is an NCNN model"),
        (b"\x93NUMPY\x01\x00", "is an array of NumPy"),
        (b"\x89PNG\r\n\x1a\n", "is an image: check the path"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive: unpack it, and give the checkpoint inside"),
        (bytes(257) + b"ustar\x00", "is a tar archive: unpack it"),
        (bytes(5000), "is no file of PyTorch or safetensors (its first bytes are 00 00 00 00 00 00 00 00)"),
        (pickle.dumps({"a": 1}, protocol=2), "is a pickle that torch.save did not write"),
        (pickle.dumps({"a": 1}, protocol=4), "is pickled by protocol 4, not torch.save's own (2)"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, expected: str) -> None:
    """Fetching them again would bring the same."""
    (tmp_path / "file.pt").write_bytes(content)
    sentence = complaint(tmp_path / "file.pt")
    assert expected in sentence
    assert "fetch it again" not in sentence


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], "is a zip archive, but no checkpoint (it has no data.pkl; it holds nothing): unpack it"),
        (["readme.txt"], "is a zip archive, but no checkpoint (it has no data.pkl; it holds readme.txt)"),
        (
            ["a/data.pkl", "b/data.pkl"],
            "is a zip archive, but no checkpoint (it has 2 times data.pkl; it holds",
        ),
        (
            ["x/data.pkl", "x/code/__torch__.py", "x/constants.pkl"],
            "is a TorchScript model, which is a program",
        ),
        (["x/archive_format", "x/data.pkl"], "is a program of torch.export: give the PyTorch checkpoint"),
    ],
)
def test_other_archives(tmp_path: Path, members: list[str], expected: str) -> None:
    with zipfile.ZipFile(tmp_path / "file.pt", "w") as archive:
        for name in members:
            archive.writestr(name, pickle.dumps({}, protocol=2))
    sentence = complaint(tmp_path / "file.pt")
    assert expected in sentence
    assert "fetch it again" not in sentence


def test_a_torchscript_file_of_torch(tmp_path: Path) -> None:
    """As torch itself writes it, without compiling anything."""
    torch.jit.ScriptModule().save(str(tmp_path / "net.pt"))
    assert "is a TorchScript model" in complaint(tmp_path / "net.pt")


def test_another_protocol_in_torchs_own_layout(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "file.pt", pickle_protocol=4)
    assert "is pickled by protocol 4, not torch.save's own (2): save it again" in complaint(
        tmp_path / "file.pt"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine_openvino_model", "it is an exported model; give the PyTorch checkpoint"),
        ("runs", "is a folder, not a checkpoint: give the file in it"),
    ],
)
def test_folders(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).mkdir()
    assert expected in complaint(tmp_path / name)


RUN = "yolov9bench reproduce --family {} --size {}"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("nowhere.pt", "check the path"),
        ("https://example.org/yolov9-c.pt", "it is an address; download the file first, and give its path"),
        ("yolov9-m", RUN.format("yolov9", "m")),
        ("YOLOv8-N-mask-refine", RUN.format("yolov8", "n") + " --mask-refine"),
        ("ultralytics-yolov9t", RUN.format("yolov9", "t") + " --source ultralytics"),
    ],
)
def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, remedy: str) -> None:
    """Said by the reader, which takes files alone, as `inspect` does."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load(given)
    assert str(caught.value).endswith(remedy)
    assert "leave it out" not in str(caught.value)


def test_the_command_for_a_row_chooses_that_row() -> None:
    for row_id in ROWS:
        words = remedy_for_missing(row_id).partition("reproduce ")[2].split()
        refined = "--mask-refine" in words
        flags = [word.removeprefix("--") for word in words if word != "--mask-refine"]
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        assert find_row(**given, mask_refine=refined).id == row_id


def test_text_fit_for_a_message() -> None:
    assert shown("Größe 象") == "Größe 象"
    assert shown("a\nb\x1b[2J\u202e") == r"a\nb\x1b[2J\u202e"
    assert shown("x" * 500, 10) == "x" * 10 + "..."

"""safetensors: files written by hand from the description of the format are read to the bit, or refused."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import foreign_tensors, narrowed
from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import build
from yolov9bench.weights import identify, load
from yolov9bench.weights.names import Format
from yolov9bench.zoo.specs import SPECS

SPEC = narrowed(SPECS["yolov8-n"], 4)
NAMES = ["cat", "dog", "bird"]
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


@pytest.fixture(autouse=True)
def _one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a file of a narrow network loads at once."""
    monkeypatch.setattr(identify, "CANDIDATES", {"ultralytics": (SPEC,), "mmyolo": (SPEC,)})


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers, little-endian, packed by Python itself."""
    values = tensor.flatten().tolist()
    if tensor.dtype == torch.bfloat16:  # the upper half of a float32
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    letters = {torch.float64: "d", torch.float32: "f", torch.float16: "e", torch.int64: "q"}
    return struct.pack(f"<{len(values)}{letters[tensor.dtype]}", *values)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for key, tensor in tensors.items():
        packed = bytes_of(tensor)
        offsets = [len(body), len(body) + len(packed)]
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        body += packed
    encoded = json.dumps(header).encode() + b"  "
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert path.name in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("form", ["ultralytics", "mmyolo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_tensor_is_read_to_the_bit(tmp_path: Path, form: Format, dtype: torch.dtype) -> None:
    """Under a name that does not say what it is, and behind DDP's prefix."""
    tensors = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in foreign_tensors(build(SPEC, classes=3), form).items()
    }
    found = load(write(tmp_path / "file.pt", {f"module.{key}": value for key, value in tensors.items()}))
    assert (found.format, found.flavour, found.spec) == (form, "safetensors", SPEC)
    read = foreign_tensors(found.detector, form)
    assert read.keys() == tensors.keys()
    for key, value in tensors.items():
        assert torch.equal(read[key], value.float() if value.is_floating_point() else value), key


@pytest.mark.parametrize("names", [json.dumps(NAMES), "{0: 'cat', 1: 'dog', 2: 'bird'}", None])
def test_names(tmp_path: Path, names: str | None) -> None:
    """Metadata are text: JSON, or a dict as Python prints it."""
    metadata = {"format": "pt"} if names is None else {"format": "pt", "names": names}
    path = write(tmp_path / "a.safetensors", foreign_tensors(build(SPEC, classes=3), "ultralytics"), metadata)
    assert load(path).names == (None if names is None else dict(enumerate(NAMES)))


def test_unreadable_names(tmp_path: Path) -> None:
    path = write(tmp_path / "file.pt", {"a": torch.zeros(1)}, {"names": "cat; dog"})
    assert "has class names that cannot be read ('cat; dog')" in complaint(path)


def entry(body: int = 12, **changes: object) -> bytes:
    """A file of one tensor "a", three float32 in 12 bytes, with changes to what is said of it."""
    described = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12], **changes}
    encoded = json.dumps({"a": described}).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(body)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (entry(), "is in no known format (it holds a)"),
        (entry(body=8), "is cut short by 4 bytes: fetch it again"),
        (entry(body=16), "has 4 bytes behind its last tensor"),
        (entry()[:30], "is cut short within the header of"),
        (struct.pack("<Q", 2**39) + b'{"a"', f"is cut short within the header of {2**39} bytes"),
        (entry(16, data_offsets=[4, 16]), "has a begin at byte 4, not 0"),
        (entry(data_offsets=[0, 8]), "gives a 8 bytes, where F32 of shape [3] needs 12"),
        (entry(data_offsets=[12, 0]), "gives a -12 bytes"),
        (entry(data_offsets=[-12, 0]), "does not say what a is"),
        (entry(shape=[-3]), "does not say what a is"),
        (entry(shape=[True]), "does not say what a is"),
        (entry(dtype=None), "does not say what a is"),
        (entry(dtype="F8_E4M3"), "has a as F8_E4M3, not a type of weights"),
        (struct.pack("<Q", 5) + b'{"a":', "has a damaged header"),
        (struct.pack("<Q", 15) + b'{"a":1, "a": 2}', "has a damaged header (a key stands twice)"),
        (struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995, "has a damaged header"),
        (struct.pack("<Q", 2) + b"{}", "is in no known format (it holds no tensor at all)"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "file.safetensors").write_bytes(content)
    assert expected in complaint(tmp_path / "file.safetensors")

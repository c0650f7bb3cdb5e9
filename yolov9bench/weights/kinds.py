"""Which kind of file a checkpoint is, by its first bytes; every other kind is refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.archive import open_archive
from yolov9bench.zoo.rows import remedy_for_missing

Kind = Literal["zip", "stream", "pickle", "safetensors"]

HEAD_BYTES = 65_536  # enough for a COCO file to come to its images
ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
# The number that torch.save's older layout begins with, pickled.
STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PICKLE = b"\x80"

ORIGINAL = "give the PyTorch checkpoint that it was exported from"
UNPACK = "unpack it, and give the checkpoint inside"
CHECK = "check the path"
FETCH = "fetch it again"
# (offset, bytes there, what the file is, what to do)
SIGNATURES = (
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the file that it stands for",
     "fetch it again, with git lfs pull or from its own address"),
    (4, b"TFL3", "is a TFLite model", ORIGINAL),
    (0, b"ftrt", "is a TensorRT engine", ORIGINAL),
    (0, b"7767517", "is an NCNN model", ORIGINAL),
    (0, b"\x89HDF", "is a Keras or HDF5 file", "give a checkpoint of PyTorch"),
    (0, b"\x93NUMPY", "is an array of NumPy", "give a checkpoint of PyTorch"),
    (0, b"\x1f\x8b", "is a gzip archive", UNPACK),
    (0, b"BZh", "is a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ", "is an xz archive", UNPACK),
    (0, b"7z\xbc\xaf", "is a 7z archive", UNPACK),
    (257, b"ustar", "is a tar archive", UNPACK),
    (0, b"\x89PNG", "is an image", CHECK),
    (0, b"\xff\xd8\xff", "is an image", CHECK),
)  # fmt: skip


def file_kind(path: Path) -> Kind:
    """The kind of a checkpoint's file; of a "pickle" it is known only that torch.save did not write it.

    Raises CheckpointError for a path without a file, and for a file that is empty, cut short at its
    beginning or end, or of another kind.
    """
    try:
        if not path.exists():
            raise CheckpointError(f"no checkpoint at {path}: {remedy_for_missing(str(path))}")
        if not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path} is a device or a pipe, not a checkpoint: {CHECK}")
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder, not a checkpoint: {remedy_for_folder(path)}")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read ({error.strerror}): check its rights") from error
    if head.startswith((ZIP, EMPTY_ZIP)):
        require_checkpoint_archive(path)
        return "zip"
    if head.startswith(STREAM):
        return "stream"
    if any(signature.startswith(head) for signature in (ZIP, STREAM)):
        what = "is cut short after its first bytes" if head else "is empty"
        raise CheckpointError(f"{path.name} {what}: {FETCH}")
    if head.startswith(PICKLE):
        return "pickle"
    if is_safetensors(head):
        return "safetensors"
    what, remedy = describe_signature(head) or describe_text(head) or describe_unknown(path, head)
    raise CheckpointError(f"{path.name} {what}: {remedy}")


def remedy_for_folder(path: Path) -> str:
    """What to do where a folder is: some exports, and unpacked checkpoints, are folders."""
    if path.name.endswith(("_openvino_model", "_saved_model", ".mlpackage", "_ncnn_model")):
        return f"it is an exported model; {ORIGINAL}"
    if (path / "data.pkl").exists():
        return "it is a checkpoint that was unpacked; give the .pt file itself"
    return "give the file in it"


def is_safetensors(head: bytes) -> bool:
    """Whether the header's length and the first brace of its JSON stand at the beginning."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def describe_signature(head: bytes) -> tuple[str, str] | None:
    """What a binary file is and what to do, by the bytes that its kind begins with."""
    for offset, signature, what, remedy in SIGNATURES:
        if head.startswith(signature, offset):
            return what, remedy
    if head[4:6] == b'{"':  # the description that Ultralytics writes before the engine
        return "is a TensorRT engine", ORIGINAL
    # protobuf: a small version of the format, then the producer or the graph
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42"):
        return "is an ONNX model", ORIGINAL
    return None


def describe_text(head: bytes) -> tuple[str, str] | None:
    """What a text file is and what to do; None for a binary one."""
    text = head.decode("utf-8-sig", errors="replace").strip()
    begin = text[:200].lower()
    if begin.startswith(("<!doctype html", "<html")):
        return (
            "is a web page, not the file that was asked for",
            "open its address in a browser to see what the page says, and download the file itself",
        )
    if "<net " in begin:
        return "is an OpenVINO model", ORIGINAL
    if begin.startswith(("{", "[")):
        coco = any(f'"{key}"' in text for key in ("images", "annotations", "category_id"))
        if coco:
            return (
                "is a JSON file in COCO's format",
                "give a checkpoint here, and the data set where it is asked",
            )
        return "is a JSON file", "give the checkpoint itself"
    if text and all(letter.isprintable() or letter.isspace() for letter in text[:-1]):
        return f"is a text file (it begins with '{shown(text, 30)}')", "give the checkpoint itself"
    return None


def describe_unknown(path: Path, head: bytes) -> tuple[str, str]:
    """What is left to say of a binary file of no known kind."""
    if path.suffix == ".onnx":
        return "is an ONNX model", ORIGINAL
    begin = " ".join(f"{byte:02x}" for byte in head[:8])
    return f"is no file of PyTorch or safetensors (its first bytes are {begin})", CHECK


def require_checkpoint_archive(path: Path) -> None:
    """CheckpointError for a zip archive that is cut short or that torch.save did not write."""
    with open_archive(path) as archive:
        names = archive.namelist()
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path.name} is a TorchScript model, which is a program: {ORIGINAL}")
    if any(name.endswith("archive_format") for name in names):
        raise CheckpointError(f"{path.name} is a program of torch.export: {ORIGINAL}")
    pickles = sum(name == "data.pkl" or name.endswith("/data.pkl") for name in names)
    if pickles != 1:
        what = f"it has {pickles} times data.pkl" if pickles else "it has no data.pkl"
        holds = ", ".join(shown(name, 40) for name in names[:3]) or "nothing"
        raise CheckpointError(
            f"{path.name} is a zip archive, but no checkpoint ({what}; it holds {holds}): {UNPACK}"
        )

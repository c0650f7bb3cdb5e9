"""Checkpoints written by hand: the opcodes of their pickles, and the layouts around them."""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping

Cases = Iterator[tuple[str, bytes]]  # hostile files, each with a name
BEGIN, STOP = b"\x80\x02", b"."
STREAM_HEAD = BEGIN + b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + BEGIN + b"M\xe9\x03."
STEM = "model.0.conv.weight"
MODULE = b"cultralytics.nn.tasks\nDetectionModel\n)\x81"


def text(value: str) -> bytes:
    """The opcodes of a text."""
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """The opcodes of a whole number."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def named(name: str) -> bytes:
    """The opcode that looks up a function or class."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    """The opcodes of a call."""
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def table(*items: tuple[bytes, bytes]) -> bytes:
    """The opcodes of a dict."""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def listed(*items: bytes) -> bytes:
    """The opcodes of a list."""
    return b"](" + b"".join(items) + b"e"


def tuple_of(*items: bytes) -> bytes:
    """The opcodes of a tuple."""
    return b"(" + b"".join(items) + b"t"


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return stream.getvalue()


def zipped(
    content: bytes, storages: Mapping[str, bytes] | None = None, others: Mapping[str, bytes] | None = None
) -> bytes:
    """A checkpoint in torch.save's layout around the opcodes of its content."""
    members = {"file/data.pkl": BEGIN + content + STOP, "file/version": b"3\n", "file/byteorder": b"little"}
    members |= {f"file/data/{key}": data for key, data in (storages or {}).items()}
    return archive(members | {f"file/{name}": data for name, data in (others or {}).items()})


def streamed(content: bytes, tail: bytes = BEGIN + b"]" + STOP) -> bytes:
    """The same in the older layout: magic number, version, machine, content, list of storages."""
    machine = table((text("little_endian"), b"\x88"))
    return STREAM_HEAD + BEGIN + machine + STOP + BEGIN + content + STOP + tail


def stored(key: str, kind: str, count: int) -> bytes:
    """The opcodes of a storage."""
    words = (text("storage"), named(f"torch.{kind}"), text(key), text("cpu"), number(count))
    return tuple_of(*words) + b"Q"


def tensor(storage: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The opcodes of a tensor."""
    sides, steps = (tuple_of(*map(number, each)) for each in (shape, stride))
    hooks = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", storage, number(offset), sides, steps, b"\x89", hooks)


def module(**attributes: bytes) -> bytes:
    """The opcodes of a pickled module of Ultralytics."""
    state = table(*((text(name), value) for name, value in attributes.items()))
    return MODULE + state + b"b"


def with_tensor(key: str, claim: bytes) -> bytes:
    """A checkpoint of one tensor, for which one float32 is stored."""
    return zipped(table((text(key), claim)), {"0": bytes(4)})


def doubled(value: bytes, times: int) -> bytes:
    """A pair of a pair of a pair: 2**times values for whoever walks it."""
    return value + b"q\x01h\x01\x86" * times

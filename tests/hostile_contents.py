"""Hostile checkpoints around a network: facts of wrong types, text that writes, numbers that are none."""

import io
import itertools
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from bounded_loading import NAMES, SPEC
from hostile_calls import FUNCTIONS, MARK
from hostile_opcodes import (
    BEGIN,
    STREAM_HEAD,
    Cases,
    archive,
    called,
    doubled,
    listed,
    named,
    number,
    stored,
    streamed,
    table,
    tensor,
    text,
    zipped,
)
from synthetic import foreign_class, foreign_tensors
from torch import Tensor

from yolov9bench.nn import build

STEM = "model.0.conv.weight"
BAD_TEXT = ("\x1b[2J\x1b]0;owned\x07", "a\nerror: none", "\u202etxt.exe", "\udc80", "x" * 50_000, "\0", "")
WRONG: tuple[object, ...] = (
    None,
    [],
    {},
    -1,
    0,
    2**70,
    1e400,
    float("nan"),
    "x\x1b[2J",
    [[]],
    {"a": {}},
    True,
    b"x",
)


@cache
def sound() -> Mapping[str, Tensor]:
    """The tensors of a narrow network, as Ultralytics names them."""
    return foreign_tensors(build(SPEC, classes=3), "ultralytics")


def saved(content: object, zipped_layout: bool = True) -> bytes:
    """What torch.save makes of it."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped_layout)
    return stream.getvalue()


@cache
def own() -> Mapping[str, Any]:
    """The content of a file of our own format."""
    state = build(SPEC, classes=3).state_dict()
    facts = {"format": "yolov9bench", "version": 1, "spec": asdict(SPEC), "row": None, "fused": False}
    return {**facts, "names": dict(enumerate(NAMES)), "state_dict": state}


def beside_sound_weights() -> Cases:
    """What the other kinds have, as one more entry of a file that would load without it."""
    payloads = {name: called(name, text(f"touch {MARK}")) for name in FUNCTIONS[::12]}
    payloads |= {
        "pairs of pairs as a key": b"}" + doubled(b")", 60) + b"Ns",
        "pairs of pairs": doubled(b")", 60),
        "a bytearray": called("builtins.bytearray", number(2_000_000_000)),
        "a tensor of terabytes": tensor(stored("0", "FloatStorage", 2**40), (2**40,), (1,)),
        "an expanded tensor": tensor(stored("none", "FloatStorage", 1), (2**40,), (0,)),
        "a sparse tensor": called("torch._utils._rebuild_sparse_tensor", number(2**40)),
        "keys of one hash": table(*((number((2**61 - 1) * each), b"N") for each in range(1, 60_000))),
        "objects within objects": named("models.a") * 20_000 + b")R" + b"\x85R" * 19_999,
        "a pair of pairs in a list": listed(doubled(b")", 60), b"h\x01", b"h\x01"),
        "a pair of pairs as a label": table((b"K\0", doubled(b")", 60)), (b"K\1", b"h\1"), (b"K\2", b"h\1")),
        "lists": listed(b"]" * 900_000),
    }
    stream = io.BytesIO(saved({"model": dict(sound()), "names": NAMES}))
    with zipfile.ZipFile(stream) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    for name, payload in payloads.items():
        for key in ("extra", "names"):
            added = members[pickled][:-1] + text(key) + payload + b"s."
            yield f"{name} as {key}", archive({**members, pickled: added})


def wrong_facts() -> Cases:
    """Our own format with each fact of a wrong type or value, and each field of its Spec."""
    for key, value in itertools.product(("version", "spec", "names", "row", "fused", "state_dict"), WRONG):
        yield f"{key} {str(value)[:9]!r}", saved({**own(), key: value})
    spec = asdict(SPEC)
    large: tuple[object, ...] = (-1, 0, 10**5, 10**9, 2**62, "64", 1.5, True, None, [1], {})
    for field, value in itertools.product(("stem", "stages", "down", "pool", "head", "aux", "name"), large):
        yield f"spec {field} {value!r}", saved({**own(), "spec": {**spec, field: value}})
    for field, value in itertools.product(("depth", "out", "split", "part", "kind", "shortcut"), large):
        block = {**spec["top_down"][0], field: value}
        yield f"block {field} {value!r}", saved({**own(), "spec": {**spec, "top_down": (block,) * 2}})
    for count in (0, 1, 3, 1000):
        yield (
            f"{count} blocks",
            saved({**own(), "spec": {**spec, "top_down": (spec["top_down"][0],) * count}}),
        )
    for shape in ((2**39, 0, 1, 1), (0, 16, 1, 1), (3, 0, 1, 1), (3,)):
        state = {**own()["state_dict"], "main.head.classes.0.2.weight": torch.empty(shape)}
        yield f"class branch of {shape}", saved({**own(), "state_dict": state})
    yield "a fact left out", saved({key: value for key, value in own().items() if key != "fused"})


def hostile_text() -> Cases:
    """Escapes, line ends, bidirectional marks and halves of letters wherever a file has text."""
    for place, bad in enumerate(BAD_TEXT):
        yield f"key {place}", saved({**sound(), bad: torch.zeros(1)})
        yield f"class name {place}", saved({"model": sound(), "names": [bad, "b", "c"]})
        yield f"label {place}", saved({"model": sound(), "names": {bad: "a", 1: "b", 2: "c"}})
        yield f"row {place}", saved({**own(), "row": bad})
        yield f"name of the network {place}", saved({**own(), "spec": {**own()["spec"], "name": bad}})
        yield f"version {place}", saved({**own(), "version": bad})
        yield f"alone {place}", saved(bad)
        yield f"member {place}", archive({f"a{bad[:99]}/data.pkl".replace("\udc80", "?"): BEGIN + b"}."})
        yield f"member beside {place}", archive({f"a{bad[:99]}.txt".replace("\udc80", "?"): b"hello"})
        yield f"page {place}", bad.encode("utf-8", "surrogatepass")[:5000] + b" and more"
        line = bad.encode("utf-8", "surrogatepass").replace(b"\n", b"")[:400]
        yield f"class {place}", zipped(b"cmodels\n" + line + b"\n)R")
        yield f"unknown class {place}", zipped(b"c" + line + b"\nb\n)R")


def hostile_numbers() -> Cases:
    """Weights that are no finite real numbers in float32, in one tensor or all, and wrong constants."""
    for bad, key in itertools.product(
        (float("nan"), float("inf"), 1e200, -1e39), (STEM, "model.0.bn.running_var")
    ):
        value = sound()[key].double().clone()
        value.view(-1)[-1] = bad
        yield f"{bad} in {key}", saved({**sound(), key: value})
        with foreign_class("ultralytics.nn.tasks.DetectionModel") as make:
            yield f"{bad} in {key} of a module", saved({"model": make({**sound(), key: value}, names=NAMES)})
    for dtype in (torch.complex64, torch.bool, torch.int8, torch.uint8, torch.float8_e4m3fn, torch.uint16):
        yield f"{dtype} weights", saved({**sound(), STEM: torch.ones(sound()[STEM].shape).to(dtype)})
    for constants in (torch.arange(16.0).flip(0), torch.zeros(10**6), torch.zeros(16, dtype=torch.complex64)):
        yield f"constants {constants.shape}", saved({**sound(), "model.22.dfl.conv.weight": constants})
    negated = torch._neg_view(sound()[STEM])
    yield "negated weights", saved({**sound(), STEM: negated})
    attributed = sound()[STEM].clone()
    attributed.isfinite = attributed.all = attributed.detach = "mine"  # type: ignore[method-assign, assignment]
    yield "a tensor with methods of its own", saved({**sound(), STEM: attributed})


def broken_streams() -> Cases:
    """The older layout cut within each of its five pickles and its numbers, and changed between them."""
    whole = saved(dict(sound()), zipped_layout=False)
    for share in range(1, 40):
        yield f"cut at {share}/40", whole[: len(whole) * share // 40]
    for cut in (2, 13, 16, 19, 21, 30, 60, 100, 126, 200):
        yield f"cut after {cut} bytes", whole[:cut]
    yield "more behind", whole + bytes(8)
    yield "the last byte missing", whole[:-1]
    yield "the magic number alone", STREAM_HEAD
    yield "big-endian", whole.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    yield "another version", whole.replace(b"M\xe9\x03.", b"M\xea\x03.")
    for listing in (b"N.", b"](K\x01e.", b"}.", b"](X\1\0\0\0aX\1\0\0\0ae.", b"", b"]."):
        yield f"list {listing!r}", streamed(b"}", BEGIN + listing)


def broken_archives() -> Cases:
    """Archives that are encrypted, patched, of an old or a future version, or of another byte order."""
    whole = saved(dict(sound()))
    place = whole.find(b"PK\x01\x02")
    for offset, value in itertools.product(
        (6, 8, 10, 14, 16), (b"\x01\x00", b"\x20\x00", b"\x41\x00", b"\xff\xff")
    ):
        at = place + offset
        yield f"first member's {offset} {value!r}", whole[:at] + value + whole[at + 2 :]
        at = whole.find(b"PK\x03\x04") + offset - 2
        yield f"first header's {offset} {value!r}", whole[:at] + value + whole[at + 2 :]
    yield "a number changed", whole.replace(sound()[STEM].numpy().tobytes(), bytes(sound()[STEM].nbytes))
    yield "big-endian", zipped(b"}").replace(b"little", b"big   ")
    yield "bytes before", b"PK\x03\x04" + bytes(60) + whole
    yield "bytes behind", whole + bytes(100_000)
    yield "torch.save of another protocol", archive({"a/data.pkl": b"\x80\x04}."})
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    for name in list(members)[:12]:
        yield f"without {name}", archive({key: value for key, value in members.items() if key != name})
        yield f"{name} empty", archive({**members, name: b""})


def safetensors(header: object, body: bytes = bytes(12), length: int | None = None) -> bytes:
    """A safetensors file of this header, given as text or as what JSON makes of it."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + body


def hostile_safetensors() -> Cases:
    """Headers that lie about lengths, offsets, types and shapes, or that are bombs of JSON."""
    plain = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    for key, value in itertools.product(
        plain, (*WRONG[:-1], [2**39, 0], [0, 2**63], [-1, 3], ["0", 1], [1.0, 3.0], [0] * 99)
    ):
        yield f"{key} {str(value)[:20]}", safetensors({"a": {**plain, key: value}})
    for length in (0, 1, 2**31, 2**39, 2**63, 2**64 - 1):
        yield f"length {length}", safetensors({"a": plain}, length=length)
    for bomb in (
        b"[" * 10**6,
        b"[[]," * 10**6,
        b'{"a":' * 10**5,
        b"9" * 10**6,
        b"\xff" * 99,
        b'{"a":NaN}',
        b"{" + b" " * 10**7,
    ):
        yield f"header of {bomb[:5]!r}", safetensors(b'{"a":' + bomb)
    yield "header of one list", safetensors(b'{"a":[' + b"[]," * 600_000 + b"[]]}")
    overlapping = {"a": plain, "b": {**plain, "data_offsets": [4, 16]}}
    yield "overlapping", safetensors(overlapping, bytes(16))
    yield "the same bytes twice", safetensors({"a": plain, "b": plain})
    yield "the same key twice", safetensors(b'{"a":1,"a":1}')
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "30,000 empty tensors", safetensors({str(each): empty for each in range(30_000)}, b"")
    for bad in (
        *BAD_TEXT,
        "[" * 60_000,
        "-" * 60_000 + "1",
        "'\\d'",
        "{1: " * 900,
        "1 is 1",
        "__import__('os')",
        "9" * 5000,
    ):
        yield f"names {bad[:9]!r}", safetensors({"__metadata__": {"names": bad}, "a": plain})
    for wrong in WRONG[:-1]:
        yield f"metadata {str(wrong)[:9]!r}", safetensors({"__metadata__": wrong, "a": plain})
        yield f"names {str(wrong)[:9]!r}", safetensors({"__metadata__": {"names": wrong}, "a": plain})

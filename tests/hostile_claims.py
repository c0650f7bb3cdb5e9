"""Hostile checkpoints that claim more than they have, or that take endless time to walk."""

import itertools
import struct
import zipfile

from hostile_opcodes import (
    BEGIN,
    MODULE,
    STEM,
    STOP,
    Cases,
    archive,
    called,
    doubled,
    listed,
    module,
    named,
    number,
    stored,
    streamed,
    table,
    tensor,
    text,
    tuple_of,
    with_tensor,
    zipped,
)


def claimed_numbers() -> Cases:
    """Tensors, storages and arrays of more numbers than the file has."""
    makers = ("builtins.bytearray", "builtins.bytes", "builtins.range", "torch.Tensor", "torch.FloatTensor")
    for name in makers:
        yield f"{name} of 2e9", zipped(table((text("a"), called(name, number(2_000_000_000)))))
    for name in ("torch.FloatStorage", "torch.storage.UntypedStorage", "torch.cuda.FloatStorage"):
        yield f"call of {name}", zipped(table((text("a"), called(name, number(2**40)))))
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((2**42,), (0,)),
        ((2**20, 2**20), (0, 0)),
        ((2**31 - 1,), (1,)),
        ((2,), (2**40,)),
        ((2**47, 0), (1, 1)),
        ((2**60,), (1,)),
        ((1,) * 9, (1,) * 9),
        ((-1,), (1,)),
        ((2,), (-1,)),
        ((2, 2), (1,)),
    ]
    for shape, stride in shapes:
        claim = tensor(stored("0", "FloatStorage", 1), shape, stride)
        yield f"shape {shape} stride {stride}", with_tensor(STEM, claim)
    for offset in (1, 2**31, 2**60, -1):
        claim = tensor(stored("0", "FloatStorage", 1), (1,), (1,), offset)
        yield f"offset {offset}", with_tensor(STEM, claim)
    kinds = ("FloatStorage", "ByteStorage", "UntypedStorage")
    for kind, count in itertools.product(kinds, (-1, 2, 2**33, 2**62)):
        claim = tensor(stored("0", kind, count), (1,), (1,))
        yield f"{kind} of {count} in a zip", with_tensor(STEM, claim)
        listing = BEGIN + listed(text("0")) + STOP + struct.pack("<q", count) + bytes(8)
        yield f"{kind} of {count} in a stream", streamed(table((text(STEM), claim)), listing)
    for name in ("sparse_tensor", "meta_tensor_no_storage", "qtensor", "wrapper_subclass", "tensor_v3"):
        sides = tuple_of(number(2**40), number(2**20))
        claim = called(f"torch._utils._rebuild_{name}", sides, sides, sides, sides)
        yield f"_rebuild_{name}", zipped(table((text(STEM), claim)))
    shared = tensor(stored("0", "FloatStorage", 250_000), (250_000,), (1,)) + b"q\x05"
    views = table((text("model.0"), shared), *((text(f"model.{key}"), b"h\x05") for key in range(1, 2000)))
    yield "2000 views of 1 MB", zipped(views, {"0": bytes(1_000_000)})


def claimed_members() -> Cases:
    """Archives whose list of members is longer than they are, or whose members grow or overlap."""
    zeros = bytes(64 << 20)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        claim = BEGIN + table((text(STEM), tensor(stored("0", "ByteStorage", len(zeros)), (1,), (1,)))) + STOP
        yield f"member compressed by {method}", archive({"a/data.pkl": claim, "a/data/0": zeros}, method)
    sound = zipped(table((text("a"), text("b"))))
    end = sound.rfind(b"PK\x05\x06")
    for place, size in ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        yield f"last record {place}", sound[: end + place] + b"\xff" * size + sound[end + place + size :]
    listing = sound[sound.find(b"PK\x01\x02") : end]
    for place, size in ((20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)):
        changed = listing[:place] + b"\xff" * size + listing[place + size :]
        yield f"list of members {place}", sound.replace(listing, changed)
    yield "long list of members", sound[:end] + bytes(3 << 20) + long_end(sound[end:], 3 << 20)
    many = {f"a/{index}": b"" for index in range(50_000)}
    yield "50,000 members", archive(many | {"a/data.pkl": BEGIN + b"}."})


def long_end(record: bytes, size: int) -> bytes:
    """The last record of an archive whose list of members is `size` bytes long."""
    return record[:12] + struct.pack("<II", size, 0) + record[20:]


def endless_walks() -> Cases:
    """Short files of objects within objects: to walk, print, hash or compare them never ends."""
    pairs = doubled(b")", 60)
    lists = text("a") + b"q\x01](h\x01h\x01e\x86" * 60
    yield "pairs of pairs as a key", zipped(b"}" + pairs + b"Ns")
    for place in ("names", "format", "state_dict", "ema", "model", "meta", "version"):
        yield f"pairs of pairs as {place}", zipped(table((text(place), pairs)))
        yield f"lists of lists as {place}", zipped(table((text(place), lists)))
    own = [(text("format"), text("yolov9bench")), (text("version"), number(1))]
    facts = [(text(key), lists) for key in ("spec", "names", "row", "fused", "state_dict")]
    yield "lists of lists as every fact", zipped(table(*own, *facts))
    for depth in (40, 1_000, 100_000):
        yield f"{depth} lists deep", zipped(b"]" * depth + b"a" * (depth - 1))
        yield f"{depth} tuples deep", zipped(b")" + b"\x85" * depth)
    yield "30,000 objects deep", zipped(named("models.a") * 30_000 + b")R" + b"\x85R" * 29_999)
    for depth, name in ((39, "a"), (41, "a"), (39, "a.b"), (39, "m" * 60_000)):
        yield f"{depth} levels of modules {name[:3]}", zipped(table((text("model"), nested(depth, name))))
    for kind in ("_parameters", "_buffers", "_modules"):
        yield (
            f"14,000 modules of the same {kind}",
            zipped(table((text("model"), sharing(14_000, 20_000, kind)))),
        )


def nested(depth: int, name: str) -> bytes:
    """A module whose two children are one module, whose two children are one, and so on."""
    pushes = module(_modules=b"}") + b"q\x01"
    for _ in range(depth):
        children = table((text(name), b"h\x01"), (text(name + "2"), b"h\x01"))
        pushes += module(_modules=children) + b"q\x01"
    children = table((text("last"), b"h\x01"))
    return MODULE + table((text("unused"), tuple_of(pushes)), (text("_modules"), children)) + b"b"


def sharing(modules: int, entries: int, kind: str) -> bytes:
    """Modules that all have the very same dict of entries."""
    shared = table(*((text(f"k{each}"), b"N") for each in range(entries))) + b"q\x07"
    child = b"h\x06)\x81" + table((text(kind), b"h\x07")) + b"b"
    children = table(*((text(f"m{each}"), child) for each in range(modules)))
    unused = tuple_of(named("ultralytics.nn.tasks.DetectionModel") + b"q\x06", shared)
    return MODULE + table((text("unused"), unused), (text("_modules"), children)) + b"b"


def endless_lengths() -> Cases:
    """Long files of little content, keys chosen to collide, and the same items copied again and again."""
    codes = (
        b"N",
        b"(",
        b"}",
        b"]",
        b")",
        b"0",
        b"2",
        b"l",
        b"t",
        b".",
        b"\x80\x02",
        b"}q\0",
        b"K\0",
        b"X\0\0\0\0",
    )
    for code in (*codes, b"cmodels\na\n"):
        many = code * (10_000_000 // len(code))
        yield f"10 MB of {code!r}", zipped(many)
        yield f"1 MB of {code!r} in a stream", streamed(many[:1_000_000])
    yield "a name without end", zipped(b"c" + b"a" * 5_000_000)
    yield "a long text", zipped(b"X" + struct.pack("<I", 5_000_000) + b"a" * 5_000_000)
    yield "a text longer than the file", zipped(b"X\xff\xff\xff\xff")
    yield "a text longer than the stream", streamed(b"X\xff\xff\xff\xff")
    yield (
        "keys of one hash",
        zipped(table(*((number((2**61 - 1) * each), b"N") for each in range(1, 60_000)))),
    )
    yield "keys of one low half", zipped(table(*((number(each << 37), b"N") for each in range(1, 60_000))))
    pairs = listed(text("a") + b"N\x86q\x01", b"h\x01" * 50_000) + b"q\x02"
    for name in ("collections.OrderedDict", "collections.deque"):
        yield f"one {name} again and again", zipped(listed(pairs, (named(name) + b"h\x02\x85R") * 5_000))
    value = tensor(stored("0", "FloatStorage", 1), (1,), (1,)) + b"q\x05"
    twice = [(text(f"{prefix}k{each}"), b"h\x05") for each in range(9_000) for prefix in ("", "module.")]
    yield (
        "9,000 keys with and without a prefix",
        zipped(table((text(STEM), value), *twice), {"0": bytes(99_999)}),
    )
    long_keys = [(text("model." * 40 + str(each)), b"h\x05") for each in range(15_000)]
    yield "15,000 keys of 40 prefixes", zipped(table((text(STEM), value), *long_keys), {"0": bytes(4)})

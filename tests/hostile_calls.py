"""Hostile checkpoints that would call something: many functions, every way of calling, every layout."""

from hostile_opcodes import (
    BEGIN,
    STOP,
    Cases,
    archive,
    called,
    stored,
    streamed,
    table,
    tensor,
    text,
    tuple_of,
    zipped,
)

MARK = "obeyed"  # the file that every payload would leave in the working folder
FUNCTIONS = """
os.system posix.system nt.system os.popen os.execv os.remove posix.mkdir subprocess.Popen
subprocess.run subprocess.check_output builtins.eval builtins.exec builtins.compile builtins.open
builtins.__import__ __builtin__.eval builtins.setattr builtins.input io.open importlib.import_module
runpy.run_path pty.spawn shutil.rmtree webbrowser.open code.interact pdb.run timeit.timeit
cProfile.run ctypes.CDLL socket.create_connection urllib.request.urlopen pip.main asyncio.run
operator.attrgetter pickle.loads _pickle.loads marshal.loads types.FunctionType types.CodeType
multiprocessing.util.spawnv_passfds torch.load torch.hub.load torch.jit.load
torch.classes.load_library torch.ops.load_library torch.utils.cpp_extension.load_inline
torch.serialization.load torch.storage.io.open numpy.testing._private.utils.runstring numpy.load
pathlib.Path.unlink pathlib.os.system models.yolo.os.system ultralytics.utils.subprocess.run
utils.general.os.popen torch.nn.modules.module.sys.exit yolo.builtins.eval collections.namedtuple
collections.sys.modules functools.partial builtins.getattr _codecs.encode builtins.bytes
types.SimpleNamespace datetime.sys.exit
""".split()  # noqa: SIM905 - a list of so many would be a line each


def obeyed_calls() -> Cases:
    """Functions that would leave a mark or stop the process, in every layout and by every way of calling."""
    arguments = text(f"open({MARK!r}, 'w').close()")
    for name in FUNCTIONS:
        call = called(name, arguments)
        yield f"{name} in a zip", zipped(table((text("model"), call)))
        yield f"{name} in a stream", streamed(table((text("model"), call)))


def ways_of_calling() -> Cases:
    """os.system by every opcode that calls, builds or looks something up."""
    arguments = text(f"touch {MARK}")
    system = b"cos\nsystem\n"
    ways = {
        "INST": b"(" + arguments + b"ios\nsystem\n",
        "OBJ": b"(" + system + arguments + b"o",
        "NEWOBJ": system + b"(" + arguments + b"t\x81",
        "NEWOBJ_EX": system + b"(" + arguments + b"t}\x92",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + b"(" + arguments + b"tR",
        "EXT1": b"\x82\x01(" + arguments + b"tR",
        "EXT4": b"\x84\x01\0\0\0(" + arguments + b"tR",
        "PERSID": b"Pos.system\n",
        "BUILD": b"cultralytics.a\nb\n)\x81" + table((text("__setstate__"), system)) + b"b",
        "class attribute": b"cultralytics.a\nb\n" + table((text("__reduce__"), system)) + b"b",
        "call of a result": called("functools.partial", system) + b"(" + arguments + b"tR",
        "getattr": called("builtins.getattr", b"cpathlib\nos\n", text("system")) + b"(" + arguments + b"tR",
        "call of a dict": b"}(" + arguments + b"tR",
        "tensor subclass": called(
            "torch._tensor._rebuild_from_type_v2", system, system, tuple_of(arguments), table()
        ),
        "hooks": called(
            "torch._utils._rebuild_parameter", system + b"(" + arguments + b"tR", b"\x88", table()
        ),
        "default factory": called("collections.defaultdict", system),
    }
    for name, content in ways.items():
        yield f"{name} in a zip", zipped(content)
        yield f"{name} in a stream", streamed(content)
        yield f"{name} in a pickle", BEGIN + content + STOP


def hidden_calls() -> Cases:
    """Calls at places where a reader may not look."""
    hidden = BEGIN + called("os.system", text(f"touch {MARK}")) + STOP
    yield "in the list of storages", streamed(b"}", hidden)
    yield "behind the pickle", zipped(b"}" + STOP + hidden)
    yield "in a second member", archive({"a/data.pkl": BEGIN + b"}.", "b/data.pkl": hidden})
    yield "in a member of the same name", twins(BEGIN + b"}.", hidden)
    numbers = tensor(stored("0", "ByteStorage", len(hidden)), (len(hidden),), (1,))
    yield "in a storage", zipped(table((text("a"), numbers)), {"0": hidden})
    yield "in a script beside", zipped(b"}", others={"code/__torch__.py": b"open('obeyed', 'w')"})
    yield "in place of the magic number", hidden


def twins(first: bytes, second: bytes) -> bytes:
    """An archive with two members of one name."""
    content = archive({"a/data.pkl": first, "b/data.pkl": second})
    return content.replace(b"b/data.pkl", b"a/data.pkl")

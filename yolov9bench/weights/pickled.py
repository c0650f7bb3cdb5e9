"""Read a pickle as data: no name in it is looked up and nothing is called, whatever the file says.

The opcodes are those that torch.save writes (pickle protocol 2; `pickletools` describes them). Time and
memory are bounded by a budget of steps.
"""

from __future__ import annotations

import _compat_pickle
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, final

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.known import is_known, require_known
from yolov9bench.weights.objects import Budget, Inert, Named, as_key, make_object
from yolov9bench.weights.stored import Source

OWN_PROTOCOLS = (2, 3)  # of pickle; torch.save writes 2
MOST_NAME = 512  # bytes of a class's name, or of its module's
NAME_STEPS = 10  # what a name costs beside other opcodes
MOST_TEXT = 1 << 16  # bytes; longer ones are packed numbers, which no reader here needs
BYTE, SHORT, INT, FLOAT = map(struct.Struct, ("<B", "<H", "<i", ">d"))
INDEX = struct.Struct("<I")
STOP = b"."

Action = Callable[["PickleReader"], object]


@final
class PickleReader:
    """The stack machine that a pickle is a program for, without the power to do anything."""

    def __init__(self, stream: IO[bytes], source: Source, budget: Budget) -> None:
        self.stream = stream
        self.source = source
        self.budget = budget
        self.names: set[str] = set()  # every class and function that the pickles name
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        """What the next pickle of the stream holds.

        Raises CheckpointError for opcodes that torch.save does not write, and LookupError, TypeError,
        ValueError or struct.error for a program that no pickler made.
        """
        self.stack, self.marked, self.memo = [], [], {}
        read, budget = self.stream.read, self.budget
        while (code := read(1)) != STOP:
            budget.left -= 1  # as `spend` does, in a loop that runs a million times
            if budget.left < 0:
                raise budget.spent()
            action = ACTIONS.get(code)
            if action is None:
                raise self.foreign(f"opcode {code!r}") if code else self.cut_short()
            action(self)
        if self.marked or len(self.stack) != 1:
            raise self.foreign("objects are left over")
        return self.stack.pop()

    def take(self, count: int) -> bytes:
        """The next bytes of the stream."""
        data = self.stream.read(count)
        if len(data) < count:
            raise self.cut_short()
        return data

    def cut_short(self) -> CheckpointError:
        """The error for a stream that ends within a pickle."""
        return CheckpointError(f"{self.source.file} is cut short within its objects: fetch it again")

    def foreign(self, what: str) -> CheckpointError:
        """The error for a pickle that torch.save would not write; an unknown name in it says more."""
        require_known(self.source.file, self.names)
        return CheckpointError(
            f"{self.source.file} is damaged, or holds objects that only code of their own can read "
            f"({shown(what, 60)}): fetch it again, or have its state dict alone saved"
        )

    def begin(self) -> None:
        """The pickle's protocol."""
        protocol = self.take(1)[0]
        if protocol not in OWN_PROTOCOLS:
            raise CheckpointError(
                f"{self.source.file} is pickled by protocol {protocol}, not torch.save's own (2): "
                "save it again without another protocol"
            )

    def mark(self) -> None:
        """Begin a group of items."""
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """The items of the group that began last."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def push_number(self, form: struct.Struct) -> None:
        """A number of fixed length."""
        self.stack.append(form.unpack(self.take(form.size))[0])

    def push_long(self) -> None:
        """A whole number of up to 255 bytes."""
        self.push(int.from_bytes(self.take(self.take(1)[0]), "little", signed=True))

    def push_text(self, length: int) -> None:
        """A text; of a very long one, which is an array of numpy's, only its length is kept."""
        if length <= MOST_TEXT:
            self.push(self.take(length).decode("utf-8", "surrogatepass"))
        else:
            self.stream.seek(length, 1)
            self.push(Inert("text", (length,)))

    def push_name(self) -> None:
        """A class or function; Python 2 names are brought up to date as torch does."""
        self.budget.spend(NAME_STEPS)
        lines = [self.stream.readline(MOST_NAME) for _ in range(2)]
        if not all(line.endswith(b"\n") for line in lines):
            raise self.foreign("a name without end")
        module, name = (line[:-1].decode("utf-8") for line in lines)
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        path = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        self.names.add(path)
        self.push(Named(path))

    def push_tuple(self, length: int) -> None:
        """A tuple of the last one, two or three values."""
        items = tuple(self.stack[-length:])
        if len(items) < length:
            raise IndexError("a tuple without items")
        self.stack[-length:] = [items]

    def push_storage(self) -> None:
        """A storage: the word "storage", its type, its key, a device and how many numbers it has."""
        word, kind, key, _, numel, *view = self.stack.pop()
        is_key = type(key) in (str, int) and len(str(key)) <= MOST_NAME
        if word != "storage" or not (isinstance(kind, Named) and is_key and type(numel) is int) or any(view):
            raise ValueError("a storage that is none of torch's")
        self.push(self.source.storage(kind.path.rpartition(".")[2], str(key), numel))

    def call(self) -> None:
        """What would be a call, or a new object."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Named) or type(arguments) is not tuple:
            raise self.foreign("a call of what is no name")
        self.push(make_object(function.path, arguments, self.budget) if is_known(function.path) else None)

    def build(self) -> None:
        """Give the object below its attributes; those of plain containers and tensors are of no use."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].attributes = state if isinstance(state, dict) else {"state": state}

    def extend(self, items: list[Any]) -> None:
        """Append items to the list below."""
        if type(self.stack[-1]) is not list:
            raise self.foreign(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        """Set keys and values in the dict below."""
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise self.foreign(f"keys of a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(zip(map(as_key, items[::2]), items[1::2], strict=True))

    def remember(self, index: int) -> None:
        """Note the last value under a number."""
        self.memo[index] = self.stack[-1]


ACTIONS: Mapping[bytes, Action] = {
    b"\x80": PickleReader.begin,
    b"(": PickleReader.mark,
    b"N": lambda reader: reader.push(None),
    b"\x88": lambda reader: reader.push(True),
    b"\x89": lambda reader: reader.push(False),
    b")": lambda reader: reader.push(()),
    b"}": lambda reader: reader.push({}),
    b"]": lambda reader: reader.push([]),
    b"J": lambda reader: reader.push_number(INT),
    b"K": lambda reader: reader.push_number(BYTE),
    b"M": lambda reader: reader.push_number(SHORT),
    b"G": lambda reader: reader.push_number(FLOAT),
    b"\x8a": PickleReader.push_long,
    b"X": lambda reader: reader.push_text(INDEX.unpack(reader.take(4))[0]),
    b"U": lambda reader: reader.push_text(reader.take(1)[0]),
    b"t": lambda reader: reader.push(tuple(reader.since_mark())),
    b"\x85": lambda reader: reader.push_tuple(1),
    b"\x86": lambda reader: reader.push_tuple(2),
    b"\x87": lambda reader: reader.push_tuple(3),
    b"c": PickleReader.push_name,
    b"R": PickleReader.call,
    b"\x81": PickleReader.call,
    b"b": PickleReader.build,
    b"a": lambda reader: reader.extend([reader.stack.pop()]),
    b"e": lambda reader: reader.extend(reader.since_mark()),
    b"s": lambda reader: reader.update([reader.stack.pop(-2), reader.stack.pop()]),
    b"u": lambda reader: reader.update(reader.since_mark()),
    b"h": lambda reader: reader.push(reader.memo[reader.take(1)[0]]),
    b"j": lambda reader: reader.push(reader.memo[INDEX.unpack(reader.take(4))[0]]),
    b"q": lambda reader: reader.remember(reader.take(1)[0]),
    b"r": lambda reader: reader.remember(INDEX.unpack(reader.take(4))[0]),
    b"Q": PickleReader.push_storage,
}

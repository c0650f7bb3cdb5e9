"""What the objects of a pickle come out as: plain values, tensors not read yet, and inert stand-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

from yolov9bench.errors import CheckpointError
from yolov9bench.weights.stored import MOST_AXES, Storage, StoredTensor

MOST_KEY = 2**53  # of a whole number as a key: beyond, many could be chosen to share a hash
# Foreign containers that come out as plain ones.
DICTS = (
    "AttributeDict",
    "CfgNode",
    "ConfigDict",
    "Counter",
    "Dict",
    "EasyDict",
    "Munch",
    "OrderedDict",
    "defaultdict",
)
LISTS = ("deque",)
NOTHING: Mapping[Any, Any] = MappingProxyType({})
TENSOR = "torch._utils._rebuild_tensor"
PARAMETER = "torch._utils._rebuild_parameter"
OF_SUBCLASS = "torch._tensor._rebuild_from_type_v2"
OTHER_TENSORS = "torch._utils._rebuild_"  # sparse, quantised, abstract, of a type that no weights have


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A class or function that a file names, and nothing more."""

    path: str


@final
class Inert:
    """Stand-in for what a class or function would have made: its name, arguments and attributes."""

    __slots__ = ("arguments", "attributes", "path")

    def __init__(self, path: str, arguments: tuple[Any, ...] = ()) -> None:
        self.path = path
        self.arguments = arguments
        self.attributes = NOTHING

    @property
    def is_tensor(self) -> bool:
        """Whether this stands for a tensor that is not a plain one."""
        return self.path.startswith(OTHER_TENSORS)


@dataclass(slots=True)
class Budget:
    """Steps that are left for the pickles of a file: an opcode each, or a copied item."""

    file: str
    left: int

    def spend(self, steps: int) -> None:
        """Take steps; CheckpointError when none are left."""
        self.left -= steps
        if self.left < 0:
            raise self.spent()

    def spent(self) -> CheckpointError:
        """The error for a file with more to read than its size explains."""
        return CheckpointError(
            f"{self.file} describes more objects than any checkpoint of its size: save its state dict alone"
        )


def make_object(path: str, arguments: tuple[Any, ...], budget: Budget) -> Any:
    """What a call in a file comes out as; the function of that name is not called, nor even looked for.

    Raises ValueError for arguments that the tensors and containers of this name do not have.
    """
    last = path.rpartition(".")[2]
    if path in (TENSOR, f"{TENSOR}_v2"):
        return make_tensor(path, arguments)
    if path in (PARAMETER, f"{PARAMETER}_with_state"):
        return arguments[0]
    if path == OF_SUBCLASS and isinstance(arguments[0], Named) and isinstance(arguments[2], tuple):
        return make_object(arguments[0].path, arguments[2], budget)
    if path == "torch.Size":
        return arguments[0]
    if last in DICTS:
        return make_dict(arguments, budget)
    if last in LISTS:
        return make_list(arguments, budget)
    return Inert(path, arguments)


def make_tensor(path: str, arguments: tuple[Any, ...]) -> StoredTensor | Inert:
    """A tensor: its storage, offset, shape and stride, then what does not change its numbers.

    A last argument says whether the numbers are stored negated or conjugated; that is no plain tensor.
    """
    storage, offset, shape, stride = arguments[:4]
    lengths_fit = type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) <= MOST_AXES
    if not (isinstance(storage, Storage) and lengths_fit and are_counts((offset, *shape, *stride))):
        raise ValueError("a tensor without storage or shape")
    if len(arguments) > 6 and arguments[6]:
        return Inert(path, arguments)
    return StoredTensor(storage, offset, shape, stride)


def are_counts(numbers: Sequence[object]) -> bool:
    """Whether these are whole numbers from 0 up, such as a file may have of anything."""
    return all(type(each) is int and 0 <= each < 2**48 for each in numbers)


def make_dict(arguments: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    """A dict of the pairs that an argument lists, as Python 2 pickled ordered ones; else an empty one."""
    pairs = arguments[0] if arguments and isinstance(arguments[0], list | dict) else []
    budget.spend(len(pairs))
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return {as_key(key): value for key, value in items}


def make_list(arguments: tuple[Any, ...], budget: Budget) -> list[Any]:
    """A list of the items of the first argument, if there are any."""
    items = arguments[0] if arguments and isinstance(arguments[0], list | tuple) else ()
    budget.spend(len(items))
    return list(items)


def as_key(key: object) -> object:
    """A key whose hash is quickly made and cannot be chosen; what is no text or number stands for itself.

    A tuple of tuples of tuples takes endless time to hash, and whole numbers can be chosen to share a hash.
    """
    if type(key) in (str, bytes, bool, float, type(None)) or (
        type(key) is int and -MOST_KEY < key < MOST_KEY
    ):
        return key
    return Inert("key", (key,))

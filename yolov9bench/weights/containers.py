"""Find the network among the entries of a checkpoint, and its tensors under the keys of a known format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.objects import Inert, Named
from yolov9bench.weights.stored import StoredTensor

# Where the libraries, and their users, put a network. The average comes first; two of the others are refused.
NETWORK_ENTRIES = ("ema", "model", "state_dict", "model_state_dict", "net", "weights")
# What DDP and torch.compile put before a key, or behind the name that a trainer gives its network.
WRAPPERS = re.compile(r"^((?:model|ema)\.)?(?:(?:module|_orig_mod)\.)+")
MOST_MODULES = 20_000  # the largest known network has some 2,000
MOST_TENSORS = 20_000  # the largest known network has 2,170, a training of it with its average twice as many
LONGEST_KEY = 256  # letters; the longest known one has 100
DEEPEST_MODULE = 40


@dataclass(frozen=True)
class Found:
    """The network of a checkpoint: a pickled module or the entries of a state dict, and its entry's name."""

    network: Inert | Mapping[str, Any]
    entry: str | None  # None: the file holds the network itself
    others: tuple[str, ...]  # entries with the same network as it was before averaging


def find_network(path: Path, raw: object) -> Found:
    """The network that a file is for: its averaged one where there is one.

    Raises CheckpointError for a file without a network, or with several of which none is the average.
    """
    if is_module(raw):
        return Found(raw, None, ())
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {describe(raw)}, not a checkpoint: save a network or its state dict"
        )
    entries = {name: inner_network(raw.get(name)) for name in NETWORK_ENTRIES}
    networks = {name: network for name, network in entries.items() if network is not None}
    average = raw.get("ema")
    is_something = isinstance(average, Inert) or (
        isinstance(average, dict | list | tuple) and len(average) > 0
    )
    if is_something and "ema" not in networks:
        raise CheckpointError(
            f"{path.name} has {describe(average)} as its 'ema', which is no network: save the network itself"
        )
    if "ema" in networks:
        others = tuple(name for name in networks if name != "ema")
        return Found(networks["ema"], "ema", others)
    if len(networks) > 1:
        raise CheckpointError(
            f"{path.name} holds several networks ({', '.join(networks)}): save one of them alone"
        )
    for name, network in networks.items():
        return Found(network, name, ())
    if ("model" in raw or "ema" in raw) and not any(
        isinstance(value, StoredTensor) for value in raw.values()
    ):
        raise CheckpointError(
            f"{path.name} holds no network: its 'model' is {describe(raw.get('model'))} and its 'ema' is "
            "empty; save the model itself, or its EMA, into the file"
        )
    return Found(raw, None, ())


def describe(value: object) -> str:
    """What a value of a file is, in a word or by the name of its class."""
    if isinstance(value, Inert | Named):
        return shown(value.path)
    return "Tensor" if isinstance(value, StoredTensor) else type(value).__name__


def inner_network(value: object) -> Inert | Mapping[str, Any] | None:
    """The network in an entry, which may be an object that holds it as `module` or `ema`."""
    attributes = value.attributes if isinstance(value, Inert) else value if isinstance(value, Mapping) else {}
    if is_module(value) or any(isinstance(each, StoredTensor) for each in attributes.values()):
        return value  # type: ignore[return-value]
    held = (attributes.get(name) for name in ("module", "ema"))
    return next((each for each in held if is_module(each) or isinstance(each, Mapping)), None)


def is_module(value: object) -> TypeGuard[Inert]:
    """Whether this stands for a pickled torch module."""
    return isinstance(value, Inert) and isinstance(value.attributes.get("_modules"), Mapping)


def modules_of(path: Path, module: Inert) -> list[tuple[str, Inert]]:
    """A pickled module and all below it, each with the prefix of its keys; endless nesting is refused."""
    found: list[tuple[str, Inert]] = []
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, each = waiting.pop()
        if prefix.count(".") > DEEPEST_MODULE:
            raise CheckpointError(f"{path.name} has a module within itself: it is no network")
        found.append((prefix, each))
        children = entries_of(each, "_modules")
        seen += len(children)
        if seen > MOST_MODULES:
            raise CheckpointError(f"{path.name} has more than {MOST_MODULES} modules: it is no known network")
        below = [
            (f"{prefix}{require_name(path, name, prefix)}.", child)
            for name, child in children.items()
            if isinstance(child, Inert)
        ]
        waiting += reversed(below)
    return found


def module_tensors(path: Path, modules: list[tuple[str, Inert]]) -> dict[str, Tensor]:
    """Parameters and buffers of pickled modules, under the keys that their state_dict would have."""
    held: dict[str, object] = {}
    seen = 0
    for prefix, module in modules:
        for kind in ("_parameters", "_buffers"):
            entries = entries_of(module, kind)
            seen += len(entries)
            require_few(path, seen)
            held |= {f"{prefix}{require_name(path, name, prefix)}": value for name, value in entries.items()}
    return tensors_of(path, held)


def entries_of(module: Inert, kind: str) -> Mapping[object, object]:
    """The modules, parameters or buffers of a pickled module, by name."""
    entries = module.attributes.get(kind)
    return entries if isinstance(entries, dict) else {}


def tensors_of(path: Path, entries: object) -> dict[str, Tensor]:
    """The tensors among the entries of a state dict, read from the file.

    CheckpointError for one that is no plain tensor, or that has more numbers than the file stores of it, and
    if all together have more bytes than the file: views of the same numbers under many keys.
    """
    found = entries if isinstance(entries, dict) else {}
    stored = {
        (name := require_name(path, key)): require_plain(path, name, value)
        for key, value in found.items()
        if isinstance(value, StoredTensor) or (isinstance(value, Inert) and value.is_tensor)
    }
    require_few(path, len(stored))
    claimed, size = sum(value.nbytes for value in stored.values()), path.stat().st_size
    if claimed > size:
        raise CheckpointError(
            f"{path.name} has {claimed} bytes of tensors in a file of {size}: save a copy of each, not views"
        )
    return {key: value.load() for key, value in stored.items()}


def require_name(path: Path, name: object, prefix: str | None = None) -> str:
    """The name of a tensor, or with a prefix of a part of a module; CheckpointError if it can be none."""
    if not isinstance(name, str) or (prefix is not None and "." in name):
        what = shown(name, 60) if isinstance(name, str | int) else describe(name)
        raise CheckpointError(f"{path.name} names a tensor or module by {what}: it is no known network")
    if len(prefix or "") + len(name) > LONGEST_KEY:
        raise CheckpointError(
            f"{path.name} has {shown(name)} as a name, more than {LONGEST_KEY} letters long: "
            "it is no known network"
        )
    return name


def require_few(path: Path, tensors: int) -> None:
    """CheckpointError for more tensors than any known network has."""
    if tensors > MOST_TENSORS:
        raise CheckpointError(f"{path.name} has more than {MOST_TENSORS} tensors: it is no known network")


def require_plain(path: Path, key: str, value: StoredTensor | Inert) -> StoredTensor:
    """CheckpointError for a tensor that is sparse, quantised or abstract, or stored in part alone."""
    if isinstance(value, Inert):
        raise CheckpointError(
            f"{path.name} has {shown(key)} as a sparse, quantised, empty or negated tensor: save a plain one"
        )
    if not value.is_within_storage():
        raise CheckpointError(
            f"{path.name} has {shown(key)} with {value.numel} numbers, of which it stores fewer: "
            "save a copy of the tensor, not an expanded view"
        )
    return value


def plain_keys(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each key of a file, the key that its format's own files have.

    Taken off are `module.` (DDP), `_orig_mod.` (torch.compile) and the `model.` of a library's wrapper; put
    on is the `model.` that the layers of a network saved alone lack. CheckpointError if two keys become one.
    """
    plain = {key: WRAPPERS.sub(r"\1", key) for key in tensors}
    while plain and all(name.startswith(("model.model.", "ema.model.")) for name in plain.values()):
        plain = {key: name.partition(".")[2] for key, name in plain.items()}
    if any(re.match(r"model\.\d+\.heads\.", name) for name in plain.values()):  # MultimediaTechLab's
        plain = {key: name.removeprefix("model.") for key, name in plain.items()}
    if any(re.match(r"\d+\.cv\d\.", name) for name in plain.values()):  # no layer of MultimediaTechLab's
        plain = {key: f"model.{name}" if re.match(r"\d+\.", name) else name for key, name in plain.items()}
    if len(set(plain.values())) < len(plain):
        twice = next(name for name, times in Counter(plain.values()).items() if times > 1)
        raise CheckpointError(
            f"{path.name} has {shown(twice)} twice, with and without a prefix: save one network alone"
        )
    return plain

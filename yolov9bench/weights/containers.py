"""Find the network among the entries of a checkpoint, and its tensors under the keys of a known format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.reader import Inert

# Where the libraries, and their users, put a network. The average comes first; two of the others are refused.
NETWORK_ENTRIES = ("ema", "model", "state_dict", "model_state_dict", "net", "weights")
# What DDP and torch.compile put before a key, or behind the name that a trainer gives its network.
WRAPPERS = re.compile(r"^((?:model|ema)\.)?(?:(?:module|_orig_mod)\.)+")
MOST_MODULES = 20_000  # the largest known network has some 2,000
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
            f"{path.name} holds a {shown(type(raw).__name__)}, not a checkpoint: "
            "save a network or its state dict"
        )
    entries = {name: inner_network(raw.get(name)) for name in NETWORK_ENTRIES}
    networks = {name: network for name, network in entries.items() if network is not None}
    average = raw.get("ema")
    is_something = isinstance(average, Inert | Mapping | list | tuple) and average not in ({}, [], ())
    if is_something and "ema" not in networks:
        kind = shown(getattr(average, "path", type(average).__name__))
        raise CheckpointError(
            f"{path.name} has {kind} as its 'ema', which is no network: save the network itself"
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
    if ("model" in raw or "ema" in raw) and not any(isinstance(value, Tensor) for value in raw.values()):
        kind = shown(type(raw.get("model")).__name__)
        raise CheckpointError(
            f"{path.name} holds no network: its 'model' is {kind} and its 'ema' is empty; "
            "save the model itself, or its EMA, into the file"
        )
    return Found(raw, None, ())


def inner_network(value: object) -> Inert | Mapping[str, Any] | None:
    """The network in an entry, which may be an object that holds it as `module` or `ema`."""
    attributes = value.attributes if isinstance(value, Inert) else value if isinstance(value, Mapping) else {}
    if is_module(value) or any(isinstance(each, Tensor) for each in attributes.values()):
        return value  # type: ignore[return-value]
    held = (attributes.get(name) for name in ("module", "ema"))
    return next((each for each in held if is_module(each) or isinstance(each, Mapping)), None)


def is_module(value: object) -> TypeGuard[Inert]:
    """Whether this stands for a pickled torch module."""
    return isinstance(value, Inert) and isinstance(value.attributes.get("_modules"), Mapping)


def modules_of(path: Path, module: Inert) -> list[tuple[str, Inert]]:
    """A pickled module and all below it, each with the prefix of its keys; endless nesting is refused."""

    def walk(each: Inert, prefix: str, depth: int) -> Iterator[tuple[str, Inert]]:
        if depth > DEEPEST_MODULE:
            raise CheckpointError(f"{path.name} has a module within itself: it is no network")
        yield prefix, each
        children = each.attributes.get("_modules")
        for name, child in children.items() if isinstance(children, Mapping) else ():
            if isinstance(child, Inert):
                yield from walk(child, f"{prefix}{name}.", depth + 1)

    found = list(islice(walk(module, "", 0), MOST_MODULES + 1))
    if len(found) > MOST_MODULES:
        raise CheckpointError(f"{path.name} has more than {MOST_MODULES} modules: it is no known network")
    return found


def module_tensors(path: Path, modules: list[tuple[str, Inert]]) -> dict[str, Tensor]:
    """Parameters and buffers of pickled modules, under the keys that their state_dict would have."""
    held = {
        f"{prefix}{name}": value
        for prefix, module in modules
        for kind in ("_parameters", "_buffers")
        if isinstance(entries := module.attributes.get(kind), Mapping)
        for name, value in entries.items()
    }
    return tensors_of(path, held)


def tensors_of(path: Path, entries: object) -> dict[str, Tensor]:
    """The tensors among the entries of a state dict, each of them stored in full."""
    found = entries.items() if isinstance(entries, Mapping) else ()
    tensors = {str(key): value for key, value in found if isinstance(value, Tensor)}
    for key, value in tensors.items():
        require_stored(path, key, value)
    return tensors


def require_stored(path: Path, key: str, value: Tensor) -> None:
    """CheckpointError for a tensor that is sparse, quantised or abstract, or stored in part alone."""
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain:
        raise CheckpointError(
            f"{path.name} has {shown(key)} as a sparse, quantised or empty tensor: save it as a plain one"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path.name} has {shown(key)} with {value.numel()} numbers, of which it stores fewer: "
            "save a copy of the tensor, not an expanded view"
        )


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
        names = list(plain.values())
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(
            f"{path.name} has {shown(twice)} twice, with and without a prefix: save one network alone"
        )
    return plain

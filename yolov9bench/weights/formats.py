"""Tell which of the five formats a checkpoint's keys have; take out tensors, class names and flavour."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.archive import folder_of, open_archive
from yolov9bench.weights.containers import (
    WRAPPERS,
    Found,
    find_network,
    module_tensors,
    modules_of,
    plain_keys,
    tensors_of,
)
from yolov9bench.weights.described import OwnFacts, parse_class_names, parse_own_facts
from yolov9bench.weights.kinds import file_kind
from yolov9bench.weights.known import first_three
from yolov9bench.weights.names import Format
from yolov9bench.weights.objects import Inert
from yolov9bench.weights.reader import read_inert
from yolov9bench.weights.safetensors import read_safetensors
from yolov9bench.weights.strangers import refuse_strangers

KNOWN = "official YOLOv9/GELAN, Ultralytics, mmyolo, MultimediaTechLab and yolov9bench files"
# The root of a pickled class, which says whose network it is.
ORIGINS: Mapping[str, Format] = {
    "models": "official",
    "ultralytics": "ultralytics",
    "mmyolo": "mmyolo",
    "yolo": "multimediatechlab",
}
# What mmyolo's own publishing tool deletes: pre-processing and grid constants, no weights.
MMYOLO_CONSTANTS = re.compile(r"^data_preprocessor\.|priors_base_sizes|grid_offset|prior_inds")


@dataclass(frozen=True)
class Contents:
    """A checkpoint taken apart: tensors under the file's keys, class names by label, and what is left out."""

    format: Format
    flavour: str
    tensors: dict[str, Tensor]
    names: dict[int, str] | None
    dropped: tuple[str, ...]
    own: OwnFacts | None = None  # of a file of our own


def read_contents(path: Path) -> Contents:
    """Read a checkpoint and recognise its format from its keys.

    Raises CheckpointError for unknown, mixed, empty or unreadable files, and for other networks.
    """
    kind = file_kind(path)
    if kind == "safetensors":
        tensors, names = read_safetensors(path)
        return as_contents(path, tensors, "safetensors", names)
    with read_inert(path, kind) as raw:
        return take_apart(path, raw)


def take_apart(path: Path, raw: object) -> Contents:
    """What `torch.save` wrote as Contents, while its file is open."""
    if isinstance(raw, Mapping) and raw.get("format") == "yolov9bench":
        return read_own_contents(path, raw)
    found = find_network(path, raw)
    described = raw if isinstance(raw, Mapping) else {}
    if isinstance(found.network, Inert):
        return read_module(path, found, found.network, described)
    tensors = tensors_of(path, found.network)
    if found.entry == "state_dict":
        return read_nested_contents(path, described, tensors)
    flavour = "plain" if found.entry is None else "state-dict"
    return as_contents(path, tensors, flavour, described.get("names"), found.others)


def as_contents(
    path: Path, tensors: Mapping[str, Tensor], flavour: str, names: object, dropped: tuple[str, ...] = ()
) -> Contents:
    """A state dict as Contents: the keys without prefixes, their format found out, strangers refused."""
    plain = plain_keys(path, tensors)
    kept = {plain[key]: value for key, value in tensors.items()}
    refuse_strangers(path, (), kept)
    return Contents(detect_format(path, kept), flavour, kept, parse_class_names(path, names), dropped)


def read_own_contents(path: Path, raw: Mapping[str, Any]) -> Contents:
    """Our own files: tensors and plain metadata."""
    facts = parse_own_facts(path, raw)
    tensors = tensors_of(path, raw["state_dict"])
    return Contents("yolov9bench", "weights", tensors, parse_class_names(path, raw["names"]), (), facts)


def read_module(path: Path, found: Found, module: Inert, described: Mapping[str, Any]) -> Contents:
    """A whole pickled network, of the official, Ultralytics' or another known library."""
    modules = modules_of(path, module)
    held = module_tensors(path, modules)
    plain = plain_keys(path, held)
    tensors = {plain[key]: value for key, value in held.items()}
    classes = [each.path for _, each in modules]
    refuse_strangers(path, classes, tensors)
    refuse_other_activations(path, classes)
    form = detect_format(path, tensors)
    foreign = [name for name in classes if name.partition(".")[0] in ORIGINS]
    if foreign and ORIGINS[foreign[0].partition(".")[0]] != form:
        origin = ORIGINS[foreign[0].partition(".")[0]]
        raise CheckpointError(
            f"{path.name} fits no known network: its classes ({shown(foreign[0])}) are {origin}, its tensors "
            f"{form}; give a file of YOLOv8, YOLOv9 or GELAN as its own library wrote it"
        )
    flavour = (
        "module" if found.entry is None else "stripped" if described.get("optimizer") is None else "training"
    )
    if form == "official":
        flavour = official_flavour(path, tensors)
    own_names = (each.attributes["names"] for _, each in modules if "names" in each.attributes)
    names = parse_class_names(path, next(own_names, described.get("names")))
    return Contents(form, flavour, tensors, names, found.others)


def refuse_other_activations(path: Path, classes: Iterable[str]) -> None:
    """All known networks use SiLU; another activation leaves the tensors' names and shapes as they are."""
    for name in classes:
        kind = name.rpartition(".")[2]
        if ".activation." in name and kind != "SiLU":
            raise CheckpointError(
                f"{path.name} uses {shown(kind)}, not SiLU: it is another network, which needs its own Spec"
            )


def read_nested_contents(path: Path, raw: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Contents:
    """mmyolo's and Lightning's files: a `state_dict` beside other entries."""
    unwrapped = {key: WRAPPERS.sub(r"\1", key) for key in tensors}
    averaged = any(name.startswith("ema.model.") for name in unwrapped.values())
    if averaged or any(re.match(r"model\.model\.\d+\.heads\.", name) for name in unwrapped.values()):
        prefix = "ema.model." if averaged else "model.model."
        kept = {key: value for key, value in tensors.items() if unwrapped[key].startswith(prefix)}
        dropped = tuple(key for key in tensors if key not in kept)
        return as_contents(path, kept, "lightning-ema" if averaged else "lightning", None, dropped)
    plain = plain_keys(path, tensors)
    constants = tuple(key for key in tensors if MMYOLO_CONSTANTS.search(plain[key]))
    kept = {key: value for key, value in tensors.items() if key not in constants}
    present = tuple(key for key in ("ema_state_dict", "optimizer", "message_hub") if key in raw)
    meta = raw.get("meta")
    described = (meta.get("dataset_meta") if isinstance(meta, Mapping) else None) or {}
    names = (described.get("classes") or described.get("CLASSES")) if isinstance(described, Mapping) else None
    found = as_contents(path, kept, "state-dict", names or raw.get("names"), constants + present)
    if found.format != "mmyolo":
        return found
    flavour = "work-dir" if {"ema_state_dict", "optimizer"} & set(present) else "published"
    return replace(found, flavour="message-hub" if present == ("message_hub",) else flavour)


def detect_format(path: Path, tensors: Mapping[str, Tensor]) -> Format:
    """The format whose keys these are."""
    found: list[Format] = []
    if any(re.match(r"backbone\.stem\.|bbox_head\.head_module\.", key) for key in tensors):
        found.append("mmyolo")
    if any(re.match(r"\d+\.", key) for key in tensors):
        found.append("multimediatechlab")
    if any(re.match(r"model\.\d+\.", key) for key in tensors):
        found.append("official" if has_grouped_head(tensors) else "ultralytics")
    if len(found) > 1:
        raise CheckpointError(
            f"{path.name} mixes the keys of {' and '.join(found)}: it is one file of neither"
        )
    if not found:
        held = first_three(list(tensors)) or "no tensor at all"
        raise CheckpointError(f"{path.name} is in no known format (it holds {held}): known are {KNOWN}")
    if "37.heads.0.anchor_conv.0.conv.weight" in tensors and not any(
        key.startswith("22.heads.") for key in tensors
    ):
        raise CheckpointError(
            f"{path.name} has MultimediaTechLab's layout of before June 2024 (heads in layer 37): "
            "take the weights of a later release"
        )
    return found[0]


def last_layer(tensors: Mapping[str, Tensor]) -> int:
    """The number of the head in a file of numbered layers."""
    return max(int(match.group(1)) for key in tensors if (match := re.match(r"model\.(\d+)\.", key)))


def has_dual_head(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head has a third and a fourth branch, those of the main head beside the auxiliary one."""
    head = f"model.{last_layer(tensors)}.cv4."
    return any(key.startswith(head) for key in tensors)


def has_grouped_head(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the last layer is the official head: two of them, or one whose box branch is grouped."""
    if has_dual_head(tensors):
        return True
    last = last_layer(tensors)
    middle = tensors.get(f"model.{last}.cv2.0.1.conv.weight")
    return middle is not None and middle.ndim == 4 and middle.shape[1] < middle.shape[0]


def official_flavour(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """dual, converted or gelan.

    A converted file has gelan's very keys; only its name differs, or the one it was saved under, which torch
    keeps as the archive's top folder.
    """
    if has_dual_head(tensors):
        return "dual"
    names = [path.name]
    if zipfile.is_zipfile(path):
        with open_archive(path) as archive:
            names.append(folder_of(archive))
    return "converted" if any("converted" in name for name in names) else "gelan"

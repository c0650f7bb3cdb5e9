"""Tell which of the five formats a checkpoint has; take out its tensors, class names and flavour."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.weights.names import Format
from yolov9bench.weights.reader import Inert, module_tensors, read_inert

KNOWN = "official YOLOv9/GELAN, Ultralytics, mmyolo, MultimediaTechLab and yolov9bench files"
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
    facts: Mapping[str, Any]  # our own files say their Spec, row and whether they are folded


def read_contents(path: Path) -> Contents:
    """Read a checkpoint and recognise its format from its keys.

    Raises CheckpointError for unknown, mixed, empty or unreadable files.
    """
    raw = read_inert(path)
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {type(raw).__name__}, not a checkpoint: known are {KNOWN}"
        )
    if raw.get("format") == "yolov9bench":
        return read_own_contents(path, raw)
    if isinstance(raw.get("state_dict"), Mapping):
        return read_nested_contents(path, raw)
    if "model" in raw or "ema" in raw:
        return read_pickled_contents(path, raw)
    tensors = tensors_of(raw)
    return Contents(detect_format(path, tensors), "plain", tensors, None, (), {})


def read_own_contents(path: Path, raw: Mapping[str, Any]) -> Contents:
    """Our own files: tensors and plain metadata."""
    lacking = [key for key in ("version", "spec", "names", "row", "fused", "state_dict") if key not in raw]
    if lacking or raw["version"] != 1:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has version {raw['version']}, not 1"
        raise CheckpointError(f"{path.name} {what}: it was written by another release of yolov9bench")
    facts = {key: raw[key] for key in ("spec", "row", "fused")}
    return Contents(
        "yolov9bench",
        "weights",
        tensors_of(raw["state_dict"]),
        parse_class_names(path, raw["names"]),
        (),
        facts,
    )


def read_pickled_contents(path: Path, raw: Mapping[str, Any]) -> Contents:
    """Official and Ultralytics files: a whole pickled module, the averaged one (`ema`) where there is one."""
    chosen = "ema" if isinstance(raw.get("ema"), Inert) else "model"
    module = raw.get(chosen)
    if not isinstance(module, Inert):
        raise CheckpointError(
            f"{path.name} holds no network: its 'model' is {type(module).__name__} and its 'ema' is empty; "
            "save the model itself, or its EMA, into the file"
        )
    refuse_other_activations(path, module)
    tensors = dict(module_tensors(module))
    form = detect_format(path, tensors)
    origin = "official" if module.path.startswith("models.") else "ultralytics"
    if form != origin:
        raise CheckpointError(
            f"{path.name} mixes formats: its classes ({module.path}) are {origin}, its tensors {form}; "
            "convert it again from the original weights"
        )
    stripped = raw.get("optimizer") is None
    flavour = (
        ("stripped" if stripped else "training") if form == "ultralytics" else official_flavour(path, tensors)
    )
    dropped = ("model",) if chosen == "ema" and raw.get("model") is not None else ()
    return Contents(
        form, flavour, tensors, parse_class_names(path, module.attributes.get("names")), dropped, {}
    )


def refuse_other_activations(path: Path, module: Inert) -> None:
    """All known networks use SiLU; another activation leaves the tensors' names and shapes as they are."""
    kind = module.path.rpartition(".")[2]
    if ".activation." in module.path and kind != "SiLU":
        raise CheckpointError(
            f"{path.name} uses {kind}, not SiLU: it is another network, which needs its own Spec"
        )
    for child in module.attributes.get("_modules", {}).values():
        if isinstance(child, Inert):
            refuse_other_activations(path, child)


def read_nested_contents(path: Path, raw: Mapping[str, Any]) -> Contents:
    """mmyolo and Lightning files: a `state_dict` beside other entries."""
    tensors = tensors_of(raw["state_dict"])
    lightning = {key for key in tensors if key.startswith(("model.model.", "ema.model."))}
    if lightning:
        averaged = any(key.startswith("ema.model.") for key in lightning)
        prefix = "ema.model." if averaged else "model.model."
        dropped = tuple(key for key in tensors if not key.startswith(prefix))
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        flavour = "lightning-ema" if averaged else "lightning"
        return Contents(detect_format(path, kept), flavour, kept, None, dropped, {})
    constants = tuple(key for key in tensors if MMYOLO_CONSTANTS.search(key))
    kept = {key: value for key, value in tensors.items() if key not in constants}
    form = detect_format(path, kept)
    others = ("ema_state_dict", "optimizer", "message_hub")
    present = tuple(key for key in others if key in raw)
    flavour = "work-dir" if {"ema_state_dict", "optimizer"} & set(present) else "published"
    if present == ("message_hub",):
        flavour = "message-hub"
    described = (raw.get("meta") or {}).get("dataset_meta") or {}
    names = described.get("classes") or described.get("CLASSES")
    return Contents(form, flavour, kept, parse_class_names(path, names), constants + present, {})


def tensors_of(entries: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the entries of a state dict."""
    return {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}


def parse_class_names(path: Path, names: object) -> dict[int, str] | None:
    """Class names by label, from a dict or a sequence; None where the file has none."""
    if isinstance(names, Mapping):
        if not all(str(label).isdigit() for label in names):
            raise CheckpointError(
                f"{path.name}: its classes have the labels {list(names)[:3]}, no numbers: save them again"
            )
        return {int(label): str(name) for label, name in names.items()} or None
    if isinstance(names, list | tuple):
        return {label: str(name) for label, name in enumerate(names)} or None
    return None


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
        shown = ", ".join(list(tensors)[:3]) or "no tensor at all"
        raise CheckpointError(f"{path.name} is in no known format (it holds {shown}): known are {KNOWN}")
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
        with zipfile.ZipFile(path) as archive:
            names.append(archive.namelist()[0].split("/")[0])
    return "converted" if any("converted" in name for name in names) else "gelan"

"""Mutants of what a user asks for: keywords of every Config, a notebook's globals, words, rows in TOML."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutations import HOSTILE, mutated_bytes

from yolov9bench import config
from yolov9bench.config import Config, ReproduceConfig, parameters_from
from yolov9bench.config.command_line import parse_words
from yolov9bench.zoo.toml_values import read_toml

CONFIGS: tuple[type[Config], ...] = tuple(
    each for name, each in sorted(vars(config).items()) if name.endswith("Config") and each is not Config
)
WORDS = {"evaluate": config.EvaluateConfig, "measure": config.MeasureConfig, "verify": config.VerifyConfig}
OTHERS: tuple[Any, ...] = (
    *(
        np.float64(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("t"),
        np.array([1, 2]),
        np.array(7),
        np.float32("nan"),
    ),
    *(
        b"bytes",
        bytearray(b"x"),
        {1, 2},
        (1, (2, (3,))),
        1j,
        Path("/dev/null"),
        Path("x" * 300),
        range(3),
        object,
    ),
    *(
        "yolov9-t",
        "auto",
        "cpu",
        "t",
        64,
        640,
        32,
        "demo",
        "val",
        1,
        10**6,
        "/proc/self/mem",
        "/dev/stdin",
        "a/" * 2000,
    ),
)


USUAL: dict[str, Any] = {
    **dict.fromkeys(("row", "checkpoint"), "yolov9-t"),
    **dict.fromkeys(("file", "record"), __file__),
    **dict.fromkeys(("images", "files"), (Path(__file__),)),
    **dict.fromkeys(("folder", "dataset"), str(Path(__file__).parent)),
    "form": "metafile",
    "rows": ["yolov9-*"],
    "out": "out",
}


def parameters_in(folder: Path) -> Any:
    """An attack on parameters, wherever they come from."""

    def attack(random: Random) -> str:
        choice = random.random()
        if choice < 0.75:
            form = random.choice(CONFIGS)
            made = form.from_names(given_to(form, random))
        elif choice < 0.9:
            made = parameters_from(given_to(ReproduceConfig, random) | {"_private": 1, "module": random})
        elif choice < 0.95:
            made = parse_words(words_for(random), WORDS, "fuzz")
        else:
            (folder / "row.toml").write_bytes(mutated_bytes(TOML, random))
            read_toml(folder / "row.toml")
            return "a table"
        if hasattr(made, "require_paths"):
            made.require_paths()
        return "a Config"

    return attack


def given_to(form: type[Config], random: Random) -> dict[str, Any]:
    """Keywords for a Config: those that it needs, and some more, with a value that may be anything."""
    known = fields(form)
    needed = [each.name for each in known if each.default is MISSING and each.default_factory is MISSING]
    given = {name: USUAL[name] for name in needed}
    if form is config.EvaluateConfig:  # which needs one of three
        given["checkpoint"] = "yolov9-t"
    names = random.choices([each.name for each in known], k=random.randint(0, 2))
    if random.random() < 0.05:
        names.append(random.choice(("sizee", "", "__class__", "validate", "\ud800")))
    return given | {name: random.choice((*HOSTILE, *OTHERS, *OTHERS)) for name in names}


def words_for(random: Random) -> list[str]:
    """The words of a command line."""
    command = random.choice([*WORDS, "", "evaluat", "\ud800"])
    flags = [f"--{each.name.replace('_', '-')}" for form in WORDS.values() for each in fields(form)]
    words = [random.choice((random.choice(flags), str(random.choice((*HOSTILE, *OTHERS))))) for _ in range(4)]
    return [command, *words]


TOML = b"""
name = "mine"
checkpoint = "weights.pt"
protocol = { name = "yolov9", image_size = 640, nms_iou = 0.65 }
[published]
box_ap = 50.1
source = "a paper"
list = [1, 2.5, "x", [true, 1979-05-27T07:32:00Z]]
"""

"""From the words of a command line to a Config, by tyro; what is wrong with them in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from io import StringIO
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import Any, get_args

import tyro
from tyro.conf import DisallowNone

from yolov9bench.config.values import Config
from yolov9bench.errors import SettingsError, require_choice, unknown


def program() -> str:
    """How this program was called: as the console script, or as a module."""
    return "yolov9bench" if Path(sys.argv[0]).stem == "yolov9bench" else "python -m yolov9bench"


def parse_words(arguments: Sequence[str], commands: Mapping[str, Any], description: str) -> Config:
    """The Config of a command line; SystemExit after --help, SettingsError with tyro's reason otherwise."""
    _require_known_words(arguments, commands)
    said = StringIO()
    try:
        with redirect_stderr(said):
            config: Config = tyro.extras.subcommand_cli_from_dict(
                dict(commands),
                prog=program(),
                description=description,
                args=list(arguments),
                sort_subcommands=False,
                config=(DisallowNone,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise SettingsError(_reason(said.getvalue())) from None
    return config


def _require_known_words(arguments: Sequence[str], commands: Mapping[str, Any]) -> None:
    """SettingsError with a suggestion for a command or a flag that does not exist."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return
    command = arguments[0]
    require_choice("command", command, commands)
    config = get_args(commands[command])[0] if get_args(commands[command]) else commands[command]
    names = [field.name for field in fields(config)]
    flags = [f"--{prefix}{name.replace('_', '-')}" for name in names for prefix in ("", "no-")]
    for before, word in pairwise(arguments):
        if not word or (word.startswith("--") and word.endswith("=")):
            name = word.rstrip("=") or before
            raise SettingsError(f"an empty value follows {name}: give one, or leave {name} out")
        if word.startswith("--") and word != "--help":
            flag = word.partition("=")[0].replace("_", "-")
            if flag not in flags:
                raise unknown(f"flag of {command}", flag, [each for each in flags if "--no-" not in each])


def _reason(box: str) -> str:
    """The first section of tyro's box on one line, without the flags' help, which is indented further.

    The box has a title and sections, between lines or, where the output's encoding has none, between dashes.
    """
    body = [line[1:].rstrip("│ ") for line in box.splitlines()[1:]]
    rest = dropwhile(lambda line: not line.strip(" -"), body)
    shown = takewhile(lambda line: line.strip(" ─-╰╯"), rest)
    text = " ".join(line.strip() for line in shown if not line.startswith(" " * 9))
    return f"{text.rstrip('.:')}: see --help"

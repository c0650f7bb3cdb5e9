"""Where a number comes from: the code and the command behind it; no paths, no host names, no torch."""

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from yolov9bench.errors import RecordError
from yolov9bench.io.git import run_git

DISTRIBUTION = "yolov9bench"
# Tables are written into the README after a measurement, which must not spoil the next one.
GENERATED = re.compile(r"<!-- (table|parity) -->.*?<!-- /\1 -->", re.DOTALL)
# Inside a text: two parts at least, so that "km /h" stays, and no tail of a word or a web address.
EMBEDDED = re.compile(
    r"""(?:(?<![\w.:/~<-])(?:file://)?(?:/[^\s/"'`,;:()\[\]{}<>]+){2,}|(?<!\w)[A-Za-z]:[\\/][^\s"'`,;()\[\]{}<>]+)"""
)


@dataclass(frozen=True)
class Code:
    """The code that ran: its commit and whether files differ from it (None outside git), its version."""

    commit: str | None
    dirty: bool | None
    version: str | None


@cache
def code(root: Path = Path(__file__).parents[2]) -> Code:
    """The state of the checkout in `root`, read once: what is edited after the first call does not run.

    Dirty: a tracked file outside results/ and outside the README's generated blocks differs from the commit.
    Without a checkout the installed version stands in. RecordError: neither is there, or git fails.
    """
    version = _version(DISTRIBUTION)
    if not (root / ".git").exists():
        if version is None:
            raise RecordError(
                f"{DISTRIBUTION} is neither installed nor in a git checkout: install it with pip."
            )
        return Code(None, None, version)
    changes = _git(
        root, "diff", "HEAD", "--name-status", "--no-renames", "-z", "--", ".", ":(exclude)results"
    )
    dirty = changes != "" if changes != "M\0README.md\0" else _differs_outside_table(root)
    return Code(_git(root, "rev-parse", "HEAD").strip(), dirty, version)


@dataclass(frozen=True)
class Environment:
    """The code, the libraries and the machine behind a record; None for what a record does not state.

    `cuda` is None unless the device is one; its `driver` is None if nvidia-smi does not say it. `float32`
    says how the device computes: "ieee", or rounded on the way to "tf32" or "bf16".
    """

    commit: str | None
    dirty: bool | None
    versions: dict[str, Any] | None
    platform: str | None
    device: str | None
    device_name: str | None
    cuda: dict[str, Any] | None
    threads: int | None
    float32: dict[str, Any] | None


def command() -> list[str]:
    """The arguments of this process, absolute paths reduced to file names."""
    return [reduce_paths(argument) for argument in sys.argv]


def reduce_paths(value: Any) -> Any:
    """A str, path, list, tuple or dict of them with every absolute path reduced to its file name.

    A string that is one, or `name=` one, is reduced whole, blanks included; inside other text a path ends at
    a blank, quote, comma or bracket. Other values are returned as they are, paths as strings and tuples as
    lists.
    """
    if isinstance(value, dict):
        return {key: reduce_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [reduce_paths(part) for part in value]
    if isinstance(value, PurePath):
        return reduce_paths(str(value))
    if not isinstance(value, str):
        return value
    name, sign, rest = value.rpartition("=") if not _absolute(value) else ("", "", value)
    if _absolute(rest):
        return name + sign + _file_name(rest)
    return EMBEDDED.sub(lambda found: _file_name(found[0]), value)


def _absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _file_name(path: str) -> str:
    return PureWindowsPath(path).name or path  # it parts at / and \ alike; a root has no name


def _git(root: Path, *arguments: str) -> str:
    try:
        result = run_git(root, *arguments)
    except OSError as error:
        raise RecordError("git cannot be run, so the commit is unknown: install git.") from error
    if result.returncode:
        raise RecordError(
            f"git {arguments[0]} fails in {root} ({result.stderr.strip().partition(chr(10))[0]}), "
            "so the commit is unknown: repair the checkout."
        )
    return result.stdout


def _differs_outside_table(root: Path) -> bool:
    committed = _git(root, "show", "HEAD:README.md")
    current = (root / "README.md").read_text(encoding="utf-8")
    return GENERATED.sub("", committed) != GENERATED.sub("", current)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

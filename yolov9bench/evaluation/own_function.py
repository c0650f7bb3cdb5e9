"""The function that a user names as a detector: found in a file or module, imported, and identified by hash.

    def detect(images):           # a list of uint8 [H, W, 3], RGB, each in its own size
        return [(boxes, scores, labels) for each image]

boxes [N, 4] are x1 y1 x2 y2 in pixels of that image, scores [N] lie in 0..1, and labels [N] are category ids
of the annotation file, not indices. Sizes, thresholds and suppression are the function's own affair.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, TypeAlias

from yolov9bench.errors import DetectorError, SettingsError, exists, shown, unknown
from yolov9bench.io.files import sha256_of
from yolov9bench.io.git import commit_of
from yolov9bench.ops.images import Pixels

DetectFunction: TypeAlias = Callable[[list[Pixels]], Sequence[tuple[Any, Any, Any]]]

HOW_TO_NAME = "give file.py:function or module:function"


@dataclass(frozen=True)
class OwnFunction:
    """A detector as a function, with its name as in my.py:detect, and its source file.

    Without a source file, as of a function typed in a notebook, `file` and `sha256` are None; `commit` is the
    one that holds the file as it is, if any does.
    """

    detect: DetectFunction
    label: str
    file: Path | None = None
    sha256: str | None = None
    commit: str | None = None


def find_function(named: str | DetectFunction) -> OwnFunction:
    """The function of a name like my.py:detect or package.module:detect, or a callable itself.

    The user's code is imported, and so runs, because it was named. SettingsError for a name that leads
    nowhere; DetectorError for code that fails when it is imported.
    """
    if callable(named):
        return describe_function(named)
    place, colon, name = named.rpartition(":")
    if not colon or not place or not name:
        raise SettingsError(f"detector {named!r} names no function: {HOW_TO_NAME}")
    module = import_file(Path(place)) if place.endswith(".py") else import_module(place)
    label = Path(place).name if place.endswith(".py") else place
    found = getattr(module, name, None)
    if found is None:
        raise unknown(f"function of {label}", name, [key for key in vars(module) if not key.startswith("_")])
    if not callable(found):
        raise SettingsError(f"detector {named!r} is a {type(found).__name__}, no function: {HOW_TO_NAME}")
    return describe_function(found, f"{label}:{name}", Path(str(getattr(module, "__file__", None))))


def describe_function(function: DetectFunction, label: str = "", file: Path | None = None) -> OwnFunction:
    """A callable with its name and its source: of an object those of its class; `label`, `file` if known."""
    inner = function.func if isinstance(function, partial) else function
    kind = inner if inspect.isroutine(inner) else type(inner)
    if file is None:
        try:
            file = Path(str(inspect.getsourcefile(kind)))
        except TypeError:  # of a built-in one
            file = Path()
    label = label or f"{file.name if file.is_file() else kind.__module__}:{kind.__name__}"
    if not file.is_file():
        return OwnFunction(function, label)
    return OwnFunction(function, label, file, sha256_of(file), commit_of(file))


def import_file(file: Path) -> ModuleType:
    """The module in a file, which may import what lies beside it, as when Python runs it."""
    if not exists("detector", file):
        raise SettingsError(f"detector file {file} does not exist: check the path")
    name = f"own_detector_{file.stem}"  # not the plain one, which may be that of a library
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"detector file {file} cannot be imported: {HOW_TO_NAME}")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles look it up
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed_import(file.name, error, file) from error
    finally:
        sys.path.remove(folder)
    return module


def import_module(name: str) -> ModuleType:
    """A module by its name, found as Python finds any."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise SettingsError(f"detector module {name!r} is not found: {HOW_TO_NAME}") from error
        raise _failed_import(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed_import(name, error) from error


def _failed_import(name: str, error: BaseException, file: Path | None = None) -> DetectorError:
    return DetectorError(f"{name} fails when it is imported ({describe_failure(error, file)}): correct it")


def describe_failure(error: BaseException, file: Path | None = None) -> str:
    """An exception of the user's code: where it was raised, or the last line of `file` on the way there."""
    said = " ".join(str(error).split())
    frames = extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and Path(frame.filename).resolve() == file.resolve()]
    last = (own or frames)[-1]
    what = shown(f"{type(error).__name__}: {said}" if said else type(error).__name__)
    return f"{what} in {Path(last.filename).name}, line {last.lineno}"

"""The parameters of a notebook: its plain globals as a Config, and the words that name them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, TypeVar

from yolov9bench.config.flows import ReproduceConfig
from yolov9bench.config.values import PLAIN, Config
from yolov9bench.io.provenance import reduce_paths

Asked = TypeVar("Asked", bound=Config)


def parameters_from(namespace: Mapping[str, Any]) -> ReproduceConfig:
    """As `config_from`, of the notebooks about a row."""
    return config_from(namespace, ReproduceConfig)


def config_from(namespace: Mapping[str, Any], kind: type[Asked]) -> Asked:
    """The Config of a notebook's globals, of which every value that is given as a parameter must be one.

    papermill hands an unknown name on with no more than a warning: here a misspelt one raises SettingsError
    with the likely meaning, before anything runs, and so does a value of a type that no parameter has.

    Every value counts but modules, functions, classes and names with an underscore. In a notebook, whose
    cells may run again after others have left lists and tables behind, an unknown name whose value is not
    plain counts only if a parameters cell assigns it.
    """
    cells = namespace.get("In") if "get_ipython" in namespace else None  # IPython's sources of what has run
    known = {field.name for field in fields(kind)}
    assigned = None if cells is None else set(_assigned_as_parameters(cells, known))
    given = {}
    for name, value in namespace.items():
        if name in known:
            given[name] = value
        elif name.startswith("_") or isinstance(value, ModuleType) or callable(value):
            continue
        elif type(value) in PLAIN or assigned is None or name in assigned:
            given[name] = value
    return kind.from_names(given)


def notebook_command(name: str, parameters: Config) -> list[str]:
    """What a record names as its command: the notebook, then name=value of what is not as usual.

    The process itself is a kernel, whose arguments say nothing. Absolute paths are reduced to file names.
    """
    given = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    usual = {field.name: field.default for field in fields(parameters)}
    words = [f"{key}={value}" for key, value in given.items() if value != usual[key]]
    return [f"notebooks/{name}.ipynb", *map(reduce_paths, words)]


def _assigned_as_parameters(cells: list[str], known: Collection[str]) -> Iterator[str]:
    """The names that are assigned in parameters cells, which are those before the first that asks for them
    and, when they run again, those that assign a known parameter."""
    has_asked, asking = False, (f"{parameters_from.__name__}(", f"{config_from.__name__}(")
    for cell in cells:
        has_asked = has_asked or any(call in cell for call in asking)
        try:
            names = set(_assigned(ast.parse(cell)))
        except SyntaxError:  # IPython keeps such a cell too, but it has assigned nothing
            continue
        if not has_asked or not names.isdisjoint(known):
            yield from names


def _assigned(cell: ast.Module) -> Iterator[str]:
    for statement in cell.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for node in (node for target in targets for node in ast.walk(target)):
                if isinstance(node, ast.Name):
                    yield node.id

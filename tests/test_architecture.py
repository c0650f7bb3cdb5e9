"""Walks the imports of the library and holds its floors: CONTRIBUTING.md, "Rooms and floors"."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "yolov9bench"
FOLDER = Path(__file__).parents[1] / PACKAGE

# A room is a top-level module or subpackage. It imports itself and rooms on lower floors.
# The first line is the ground (floor -1): every floor raises errors.
FLOORS = [
    {"errors"},
    {"zoo", "ops", "io"},
    {"nn", "data", "config"},
    {"weights", "predict", "records"},
    {"evaluation"},
    {"train", "plots"},
    {"profiling", "report"},
    {"reproduce", "inference", "study", "speed"},
    {"sweep", "verify"},
    {"commands"},
    {"__main__", "__init__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=-1) for room in rooms}

WITHOUT_IMAGES_AND_TABLES = [
    "nn",
    "predict.postprocess",
    "train.assigner",
    "train.loss",
    "train.optim",
    "profiling.flops",
    "profiling.latency",
    "profiling.peak_memory",
    "profiling.memory_tracker",
]
WITHOUT_TORCH = [
    "evaluation.coco_metrics",
    "evaluation.diagnostics",
    "evaluation.intervals",
    "evaluation.lrp",
    "evaluation.second_opinion",
    "evaluation.truth",
    "predict.predictions",
    "records",
    "report",
    "zoo",
]


def modules_under(folder: Path) -> dict[str, ast.Module]:
    """Every module of the package by its dotted name; a subpackage goes by the name of its `__init__`."""
    trees = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(folder).with_suffix("").parts)
        trees[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return trees


def absolute_name(node: ast.ImportFrom, importer: str) -> str:
    """`from ..nn import x` in yolov9bench.train.loop comes from yolov9bench.nn."""
    if node.level == 0:
        return node.module or ""
    package = importer.split(".")[: -node.level]
    return ".".join([*package, node.module] if node.module else package)


def imported_names(tree: ast.Module, importer: str) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute_name(node, importer)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def as_module(name: str, known: set[str]) -> str | None:
    """The module of the package that an imported name lives in; None if it lies outside the package."""
    while name.startswith(PACKAGE):
        for candidate in (name, f"{name}.__init__"):
            if candidate in known:
                return candidate
        name = name.rpartition(".")[0]
    return None


def import_graph(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    graph = {}
    for importer, tree in trees.items():
        found = (as_module(name, set(trees)) for name in imported_names(tree, importer))
        graph[importer] = {module for module in found if module}
    return graph


def outside_imports(tree: ast.Module, importer: str) -> set[str]:
    """The top-level names of the libraries that a module imports."""
    return {name.partition(".")[0] for name in imported_names(tree, importer)} - {PACKAGE}


def room_of(module: str) -> str:
    return module.split(".")[1]


def floor_faults(graph: dict[str, set[str]]) -> list[str]:
    """One sentence for each room without a floor and for each import that does not lead downwards."""
    faults = [
        f"{module} is on no floor: add its room to tests/test_architecture.py"
        for module in graph
        if room_of(module) not in FLOOR_OF
    ]
    for importer, targets in graph.items():
        for target in sorted(targets):
            here, there = room_of(importer), room_of(target)
            if here == there or not {here, there} <= FLOOR_OF.keys():
                continue
            if FLOOR_OF[there] >= FLOOR_OF[here]:
                faults.append(
                    f"{importer} (floor {FLOOR_OF[here]}) imports {target} (floor {FLOOR_OF[there]})"
                )
    return faults


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every module that is imported, directly or through others, by `start`."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def drags_in(trees: dict[str, ast.Module], part: str, forbidden: set[str]) -> list[str]:
    """Where a module or subpackage, or anything it imports, imports a forbidden library."""
    graph = import_graph(trees)
    name = f"{PACKAGE}.{part}"
    starts = [module for module in trees if module == name or module.startswith(f"{name}.")]
    if not starts:
        pytest.skip(f"{name} is not written yet")
    modules = set(starts).union(*(reachable(graph, start) for start in starts))
    found = {module: outside_imports(trees[module], module) & forbidden for module in sorted(modules)}
    return [
        f"{module} imports {library}" for module, libraries in found.items() for library in sorted(libraries)
    ]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    found = modules_under(FOLDER)
    assert f"{PACKAGE}.zoo.specs" in found
    return found


def test_imports_lead_downwards(trees: dict[str, ast.Module]) -> None:
    assert floor_faults(import_graph(trees)) == []


def test_no_circles(trees: dict[str, ast.Module]) -> None:
    graph = import_graph(trees)
    assert [module for module in graph if module in reachable(graph, module)] == []


@pytest.mark.parametrize("part", WITHOUT_IMAGES_AND_TABLES)
def test_arithmetic_needs_no_image_or_table_library(trees: dict[str, ast.Module], part: str) -> None:
    assert drags_in(trees, part, {"cv2", "pandas", "hotcoco"}) == []


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_bookkeeping_needs_no_torch(trees: dict[str, ast.Module], part: str) -> None:
    assert drags_in(trees, part, {"torch", "torchvision"}) == []


def test_no_drawer_for_odds_and_ends(trees: dict[str, ast.Module]) -> None:
    drawers = {"utils", "common", "helpers"}
    assert [module for module in trees if drawers & set(module.split("."))] == []


def test_only_the_command_line_prints(trees: dict[str, ast.Module]) -> None:
    printing = [
        f"{module}, line {node.lineno}"
        for module, tree in trees.items()
        if room_of(module) not in ("__main__", "commands")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def planted(**sources: str) -> dict[str, ast.Module]:
    """A made-up package; `nn__blocks` stands for nn/blocks.py."""
    return {f"{PACKAGE}.{name.replace('__', '.')}": ast.parse(source) for name, source in sources.items()}


@pytest.mark.parametrize(
    "source",
    [
        "import yolov9bench.train.loop",
        "from yolov9bench.train import loop",
        "from yolov9bench.train.loop import fit",
        "from ..train import loop",
        "from ..train.loop import fit",
        "def later():\n    from ..train import loop",
    ],
)
def test_an_import_upwards_is_found(source: str) -> None:
    faults = floor_faults(import_graph(planted(nn__blocks=source, train__loop="")))
    assert faults == ["yolov9bench.nn.blocks (floor 1) imports yolov9bench.train.loop (floor 4)"]


def test_an_import_from_the_next_room_is_found() -> None:
    graph = import_graph(planted(weights__reader="from ..predict import nms", predict__nms=""))
    assert len(floor_faults(graph)) == 1


def test_a_room_without_a_floor_is_named() -> None:
    graph = import_graph(planted(attic="import os"))
    assert floor_faults(graph) == [
        "yolov9bench.attic is on no floor: add its room to tests/test_architecture.py"
    ]


def test_a_circle_and_a_borrowed_library_are_found() -> None:
    trees = planted(nn__blocks="from . import head", nn__head="from .blocks import Conv\nimport cv2.dnn")
    graph = import_graph(trees)
    assert "yolov9bench.nn.head" in reachable(graph, "yolov9bench.nn.head")
    assert drags_in(trees, "nn.blocks", {"cv2"}) == ["yolov9bench.nn.head imports cv2"]

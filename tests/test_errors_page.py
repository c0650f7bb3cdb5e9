"""The page of errors: every class that the library can raise is on it, with a remedy."""

import importlib
import pkgutil
from collections.abc import Iterator

import yolov9bench
from yolov9bench.errors import BenchError
from yolov9bench.report.errors_page import render_page


def subclasses(kind: type[BenchError]) -> Iterator[type[BenchError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_class_of_every_module_is_on_the_page_with_what_to_do() -> None:
    for module in pkgutil.walk_packages(yolov9bench.__path__, "yolov9bench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    lines = [line.split("|")[1:-1] for line in render_page().splitlines() if line.startswith("| `")]
    said = {cells[0].strip().split("`")[1]: [cell.strip() for cell in cells[1:]] for cells in lines}
    ours = {each for each in subclasses(BenchError) if each.__module__.startswith("yolov9bench")}
    assert set(said) == {each.__name__ for each in ours} | {"BenchError"}
    for name, (happened, remedy) in said.items():
        assert happened.endswith(".") and remedy.endswith("."), name
    assert "`UnreachableError`, a `DownloadError`" in render_page()

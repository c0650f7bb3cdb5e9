"""The file of what the tests compared with the references, and the page made of it."""

import ast
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import report_records

from yolov9bench import records, report, verify
from yolov9bench.errors import RecordError, ReportError
from yolov9bench.io.provenance import Environment
from yolov9bench.records.parity import PARTS, TITLES, Comparison, Parity, merge, read, write
from yolov9bench.report import parity_page

ROOT = Path(__file__).parents[1]
MADE_UP = Parity(
    merge(
        [
            Comparison("yolov9", "AP", "AP", "AP points", 0.0123, 0.05, 1, "tests/test_x.py::test_ap"),
            Comparison(
                "mmyolo", "losses", "total", "relative", 4.24e-7, 1e-5, 1200, "tests/test_x.py::test_l"
            ),
            Comparison("mmyolo", "losses", "cls", "relative", 4.26e-7, 1e-5, 6, "tests/test_x.py::test_l"),
        ]
    ),
    Environment("1" * 40, True, {"torch": "2.11.0"}, None, "cpu", None, None, 1, None),
    "2026-01-31T12:00:00+00:00",
    1.5,
    ["pytest"],
)
README = "# Bench\n<!-- table -->\n<!-- /table -->\nText\n<!-- parity -->\nold\n<!-- /parity -->\nMore\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a record, the comparisons, a README, and all texts that the report makes of them."""
    (tmp_path / "README.md").write_text(README)
    records.write(report_records.evaluation(), tmp_path / "results")
    write(MADE_UP, tmp_path / "results/parity.json")
    return tmp_path


def cells_of(page: str) -> list[list[str]]:
    """The cells of all lines of tables that begin with a part, by eye: headers and summary left out."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines()]
    return [line for line in lines if line[0] in PARTS]


def test_the_page_says_what_the_file_says() -> None:
    page = parity_page.render_page(MADE_UP)
    lines = cells_of(page)
    assert lines[1:3] == [
        ["losses", "cls", "4.3e-7", "1e-5", "relative", "6", "[test_l](../tests/test_x.py)"],
        ["losses", "total", "4.2e-7", "1e-5", "relative", "1,200", "[test_l](../tests/test_x.py)"],
    ]
    assert ["AP", "AP", "0.012", "0.05", "AP points", "1", "[test_ap](../tests/test_x.py)"] in lines
    absent = [line for line in lines if line[1:] == [*["—"] * 5, "no golden"]]
    assert len(absent) == len(lines) - 3 == len(TITLES) * len(PARTS) - 2
    assert "on 2026-01-31 at commit " + "1" * 40 + " with uncommitted changes, on cpu" in page


def test_the_summary_has_a_line_for_each_reference() -> None:
    lines = parity_page.render_summary(MADE_UP).splitlines()
    assert lines[2] == "| mmyolo 0.6.0 | — | 4.3e-7 relative | — | — | — | — | — | — |"
    assert lines[3].endswith("| 0.012 AP points | — |")
    assert [line.split(" | ")[0] for line in lines[2:6]] == [f"| {title}" for title in TITLES.values()]


def stale(root: Path) -> list[str]:
    """The names that the check gives, figures left out, which these projects do not have."""
    with pytest.raises(ReportError) as refused:
        report.check(root / "results", root / "README.md")
    return re.findall(r"[\w.]+\.(?:md|csv)", str(refused.value).partition(":")[0])


def write_texts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_figures", lambda *_: None)  # two seconds
    report.write(root / "results", root / "README.md")


def test_a_stale_page_and_block_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stale(project) == ["table.md", "table.csv", "rows.md", "errors.md", "parity.md", "README.md"]
    write_texts(project, monkeypatch)
    assert stale(project) == []
    text = (project / "README.md").read_text()
    assert text.startswith("# Bench\n<!-- table -->") and text.endswith("<!-- /parity -->\nMore\n")
    assert parity_page.render_summary(MADE_UP) in text and "\nold\n" not in text
    worse = replace(MADE_UP.comparisons[1], difference=9e-6)
    write(
        replace(MADE_UP, comparisons=(MADE_UP.comparisons[0], worse, MADE_UP.comparisons[2])),
        project / "results/parity.json",
    )
    assert stale(project) == ["parity.md", "README.md"]
    (outcome,) = verify.check_report(project / "results", project / "README.md", [])
    assert outcome.word == "false" and "parity.md" in outcome.reasons[0]


def test_a_page_without_its_file_and_half_a_block_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(project, monkeypatch)
    (project / "README.md").write_text(README.replace("<!-- /parity -->", ""))
    with pytest.raises(ReportError, match="a line <!-- /parity --> around its parity: add them"):
        report.check(project / "results", project / "README.md")
    (project / "README.md").write_text(README.partition("Text")[0])
    report.write(project / "results", project / "README.md")  # a README may leave the block out
    (project / "results/parity.json").unlink()
    with pytest.raises(ReportError, match=r"parity\.md has no parity\.json beside it"):
        report.check(project / "results", project / "README.md")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"difference": 2e-5}, "cannot have passed with a difference of 2e-05 .* a tolerance of 1e-05"),
        ({"difference": -1.0}, "cannot have passed"),
        ({"difference": "0"}, "difference of a comparison cannot be '0'"),
        ({"difference": None}, "difference of a comparison cannot be None"),
        ({"count": 0}, "compared no value of cls"),
        ({"count": 1.5}, "count of a comparison cannot be 1.5"),
        ({"part": "speed"}, "no part 'speed' of a reference 'mmyolo'"),
        ({"quantity": "total"}, "doubled or out of order"),
        ({"more": 1}, "is no list of comparisons"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_true_is_refused(project: Path, changes: dict[str, Any], said: str) -> None:
    path = project / "results/parity.json"
    content = json.loads(path.read_text())
    content["comparisons"][0] |= changes
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=said):
        report.check(project / "results", project / "README.md")


def test_a_file_without_versions_is_refused(tmp_path: Path) -> None:
    write(replace(MADE_UP, environment=replace(MADE_UP.environment, versions=None)), tmp_path / "parity.json")
    with pytest.raises(RecordError, match="it names no versions"):
        read(tmp_path / "parity.json")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1}', "{}"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(RecordError, match=r"parity\.json"):
        read(tmp_path / "parity.json")


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(MADE_UP, tmp_path / "parity.json")
    assert asdict(read(tmp_path / "parity.json")) == asdict(MADE_UP)


def comparing_tests() -> set[str]:
    """Every test of this project that takes the fixture `parity`, by its file and name."""
    return {
        f"tests/{path.name}::{node.name}"
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and "parity" in (argument.arg for argument in node.args.args)
    }


def test_the_projects_file_has_every_test_that_compares_and_no_other() -> None:
    found = read(ROOT / "results/parity.json").comparisons
    assert {one.test for one in found} == comparing_tests()


def test_the_projects_page_has_every_line_of_its_file() -> None:
    """Numbers read from the page, and from the file without this project's reader."""
    content = json.loads((ROOT / "results/parity.json").read_text())["comparisons"]
    lines = [line for line in cells_of((ROOT / "results/parity.md").read_text()) if line[-1] != "no golden"]
    assert len(lines) == len(content)
    for line, one in zip(lines, content, strict=True):
        file, name = one["test"].split("::")
        assert line[:2] + line[4:] == [
            one["part"],
            one["quantity"],
            one["unit"],
            f"{one['count']:,}",
            f"[{name}](../{file})",
        ]
        assert [float(line[2]), float(line[3])] == pytest.approx(
            [one["difference"], one["tolerance"]], rel=0.05
        )
        assert (ROOT / file).is_file()


def test_every_part_that_was_compared_has_its_figure_in_the_summary() -> None:
    found = read(ROOT / "results/parity.json").comparisons
    compared = {(one.reference, one.part) for one in found}
    told = {(one.reference, one.part) for one in found if one.unit == parity_page.HEADLINES[one.part]}
    assert told == compared

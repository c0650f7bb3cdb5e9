"""The report: the table against the published one, which records count, and files that betray a change."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from yolov9bench import __main__ as door
from yolov9bench import records, report
from yolov9bench.errors import ReportError
from yolov9bench.io import provenance
from yolov9bench.nn.backbone import level_widths
from yolov9bench.nn.pyramid import pyramid_widths
from yolov9bench.plots import figure_data, performance, structure
from yolov9bench.plots.diagrams import lay_out
from yolov9bench.records import Record
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.report import rows_page, table
from yolov9bench.zoo import ROWS, SPECS
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.paper_points import SERIES
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS

WHOLE = SPLITS["val2017"]
OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#000000"}
TTA = asdict(MMYOLO_TTA)
COMMIT = provenance.code().commit or "1" * 40  # one that this checkout has, where there is one


def evaluation(row: str | None = "yolov9-c", ap: float = 0.5312, day: int = 1, **changes: Any) -> Record:
    """A complete evaluation of a row's own weights by a commit, with changes."""
    published = ROWS[row or "yolov9-c"].download
    weights = published.sha256[0] if published.sha256 else f"{published.sha256_prefix}{'0' * 56}"
    protocol = asdict(ROWS[row or "yolov9-c"].protocol)
    inputs = {
        "weights_sha256": weights,
        "spec": "yolov9-c",
        "classes": 80,
        "demo": False,
        "annotations_sha256": WHOLE.annotations_sha256,
        "image_list_sha256": "ab" * 32,
        "images": 5000,
        "images_skipped": [],
    }
    return Record(
        row=row,
        kind="evaluate",
        values={"AP": ap, "AP_interval": changes.get("interval")},
        settings={"protocol": changes.get("protocol", protocol) | changes.get("with_", {})},
        inputs=inputs | changes.get("inputs", {}),
        environment={"commit": COMMIT, "dirty": changes.get("dirty", False), "device": "cpu"},
        seed=0,
        start=f"2026-01-{day:02}T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )


def measurement(row: str = "yolov8-n", device: str = "cuda", dirty: bool = False, **changes: Any) -> Record:
    """A measurement of training memory: 2.5 GiB allocated, 3.2 GiB predicted."""
    step = {"predicted_bytes": int(3.2 * 2**30), "allocated_bytes": int(2.5 * 2**30)} | changes
    return Record(
        row=row,
        kind="measure",
        values={"memory": {"training": {"plain": step}}},
        settings={"image_size": 640, "training": {"plain": {"batch_size": changes.get("batch_size", 16)}}},
        inputs={"weights": "fresh"},
        environment={"dirty": dirty, "device": device},
        seed=0,
        start="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )


def parsed(text: str, header: str = "Backbone") -> list[dict[str, str]]:
    """The lines of the Markdown table whose first column has this heading."""
    lines = text[text.index(f"| {header} |") :].split("\n\n")[0].splitlines()
    parts = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(parts[0], line, strict=True)) for line in parts[2:]]


def line_of(row: str, *found: Record) -> dict[str, str]:
    """The line of a row in the table that these records give; it is known by its link."""
    lines = parsed(table.block(evidence(found), checks(found)))
    return next(line for line in lines if line["Config"] == f"[config](rows.md#{row})")


class TestTable:
    def test_seed_rows_have_every_published_figure_and_link(self, shared: Path) -> None:
        facts = json.loads((shared / "facts/mmyolo/table.json").read_text(encoding="utf-8"))
        lines = parsed(table.block(evidence([]), []))
        assert list(lines[0]) == facts["columns"]
        assert lines[0]["Backbone"] == "**YOLOv8 of mmyolo**"
        anchors = dict(
            re.findall(r'<a id="([^"]+)"></a>(.*?)(?=<a id=|\Z)', rows_page.render_page(), re.DOTALL)
        )
        for line, fact in zip(lines[1:11], facts["rows"], strict=True):
            assert line["Backbone"] == fact["backbone"]
            assert (line["Arch"], line["size"]) == (fact["arch"], str(fact["size"]))
            assert [line[name] for name in ("Mask Refine", "SyncBN", "AMP")] == [
                "Yes" if fact[name] else "No" for name in ("mask_refine", "syncbn", "amp")
            ]
            assert line["Mem (GB)"] == f"*{fact['mem_gb']}*"
            assert line["box AP"] == f"*{fact['box_ap_text']}*"
            assert line["TTA box AP"] == ("—" if fact["tta_box_ap"] is None else f"*{fact['tta_box_ap']}*")
            assert line["Download"] == rf"[model]({fact['model_url']}) \| [log]({fact['log_url']})"
            anchor = re.fullmatch(r"\[config\]\(rows\.md#(.+)\)", line["Config"])
            assert anchor and fact["config"] in anchors[anchor[1]]

    def test_four_sections_hold_all_rows(self) -> None:
        lines = parsed(table.block(evidence([]), []))
        sections = [line["Backbone"] for line in lines if not line["Config"]]
        assert sections == ["**YOLOv8 of mmyolo**", "**YOLOv9**", "**GELAN**", "**Ultralytics**"]
        assert len(lines) == len(ROWS) + 4

    def test_every_row_has_its_spec_and_recipe_behind_an_anchor(self) -> None:
        page = rows_page.render_page()
        for row in ROWS.values():
            part = page.split(f'<a id="{row.id}"></a>')[1].split("<a id=")[0]
            assert f"\nspec\n  name: {row.spec.name}\n" in part
            assert f"\nrecipe\n  {f'name: {row.recipe.name}' if row.recipe else '—'}\n" in part
            assert all(f"]({asset.url})" in part for asset in row.assets)

    def test_links_lead_from_the_readme_into_the_results(self) -> None:
        assert "(results/rows.md#yolov9-c)" in table.block(evidence([]), [], "results/")


class TestWhichRecordsCount:
    def test_a_whole_clean_evaluation_stands_beside_the_published_figure(self) -> None:
        assert line_of("yolov9-c", evaluation())["box AP"] == "**53.1** · *53.0*"
        assert line_of("yolov9-e", evaluation())["box AP"] == "*55.6*"
        assert checks([evaluation()]) == []

    def test_a_mask_refine_row_keeps_its_published_gain(self) -> None:
        record = evaluation("yolov8-n-mask-refine", 0.3749)
        assert line_of("yolov8-n-mask-refine", record)["box AP"] == "**37.5** · *37.4 (+0.2)*"

    def test_the_newest_counts_not_the_best(self, tmp_path: Path) -> None:
        for day, ap in ((3, 0.51), (1, 0.54), (2, 0.53)):
            records.write(evaluation(ap=ap, day=day), tmp_path)
        assert line_of("yolov9-c", *records.select(tmp_path))["box AP"] == "**51.0** · *53.0*"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"dirty": True}, "uncommitted code"),
            ({"dirty": None}, "uncommitted code"),
            ({"inputs": {"images": 500}}, "500 of 5,000 images"),
            (
                {"inputs": {"images": 5000, "annotations_sha256": "0" * 64}},
                "5,000 images that are not the whole of COCO val2017",
            ),
            ({"inputs": {"weights_sha256": "0" * 64}}, "weights other than the published ones"),
            (
                {"inputs": {"weights_sha256": ROWS["yolov9-e"].download.sha256[0]}},
                "weights other than the published ones",
            ),
            ({"protocol": asdict(PROTOCOLS["mmyolo"])}, "protocol mmyolo, not the row's yolov9"),
            ({"protocol": TTA}, "protocol mmyolo+tta, which is not defined for the row's yolov9"),
            ({"with_": {"score_threshold": 0.25}}, "protocol yolov9 with another score_threshold"),
            ({"with_": {"image_size": 320}}, "protocol yolov9 with another image_size"),
            ({"row": None}, "unknown checkpoint"),
        ],
    )
    def test_anything_else_is_listed_apart(self, changes: dict[str, Any], reason: str) -> None:
        record = evaluation(**changes)
        line = line_of("yolov9-c", record)
        assert (line["box AP"], line["TTA box AP"]) == ("*53.0*", "—")
        (check,) = checks([record])
        assert check.reasons == (reason,)

    def test_a_demonstration_is_listed_nowhere(self) -> None:
        record = evaluation(inputs={"demo": True})
        assert line_of("yolov9-c", record)["box AP"] == "*53.0*"
        assert checks([record]) == []

    def test_tta_fills_its_own_column(self) -> None:
        record = evaluation("yolov8-n", 0.3991, protocol=TTA)
        line = line_of("yolov8-n", record)
        assert (line["box AP"], line["TTA box AP"]) == ("*37.2*", "**39.9**")
        both = line_of("yolov8-n-mask-refine", evaluation("yolov8-n-mask-refine", 0.4, protocol=TTA))
        assert both["TTA box AP"] == "**40.0** · *39.9*"

    def test_a_view_with_other_thresholds_is_no_tta(self) -> None:
        base = asdict(replace(PROTOCOLS["mmyolo"], score_threshold=0.25))
        record = evaluation("yolov8-n", protocol=TTA | {"base": base})
        assert line_of("yolov8-n", record)["TTA box AP"] == "—"

    def test_a_subset_has_images_interval_and_no_published_figure(self) -> None:
        subset = {"images": 1200, "annotations_sha256": "0" * 64}
        found = [evaluation(ap=0.4012, inputs=subset, interval=[0.3711, 0.4333])]
        text = table.block(evidence(found), checks(found))
        (line,) = parsed(text[text.index("### Checked") :], "Row")
        assert (line["Row"], line["Images"], line["box AP"]) == ("yolov9-c", "1,200", "**40.1**")
        assert (line["Interval"], line["Protocol"]) == ("37.1 to 43.3", "yolov9")
        assert "53" not in "".join(line.values())

    def test_subsets_under_several_protocols_read_one_below_another(self) -> None:
        """Protocols by name, a custom file last; each with images, AP, interval, and its record's file."""
        row, subset = "ultralytics-yolov8n", {"images": 100, "annotations_sha256": "0" * 64}
        found = [
            evaluation(row, 0.3912, protocol=asdict(PROTOCOLS[name]), inputs=subset, interval=ends)
            for name, ends in (
                ("yolov9", [0.3512, 0.4398]),
                ("mmyolo", [0.3487, 0.4311]),
                ("ultralytics-square", None),
            )
        ]
        found.insert(0, evaluation(None, 0.4012, inputs=subset | {"spec": "yolov8-n"}, with_={"name": "a|b"}))
        text = table.block(evidence(found), checks(found), "results/")
        lines = parsed(text[text.index("### Checked") :], "Row")
        shown = [tuple(line[name] for name in ("Row", "Protocol", "Images", "Interval")) for line in lines]
        assert shown == [
            (row, "mmyolo", "100", "34.9 to 43.1"),
            (row, "ultralytics-square", "100", "—"),
            (row, "yolov9", "100", "35.1 to 44.0"),
            ("custom: yolov8-n", r"a\|b", "100", "—"),
        ]
        assert [line["box AP"] for line in lines] == ["**39.1**", "**39.1**", "**39.1**", "**40.1**"]
        files = [records.path_of(found[place], Path("results")).as_posix() for place in (2, 3, 1, 0)]
        assert [line["Record"] for line in lines] == [f"[2026-01-01]({file})" for file in files]

    def test_of_equal_checks_the_newest_is_listed(self) -> None:
        subset: dict[str, Any] = {"inputs": {"images": 100}}
        found = [evaluation(ap=0.4, day=1, **subset), evaluation(ap=0.3, day=2, **subset)]
        (check,) = checks(found)
        assert check.record.values["AP"] == 0.3


class TestMemory:
    def test_measured_on_a_gpu_or_predicted_beside_the_published(self) -> None:
        assert line_of("yolov8-n", measurement())["Mem (GB)"] == "**2.5** · *2.8*"
        on_cpu = measurement(device="cpu")
        assert line_of("yolov8-n", on_cpu)["Mem (GB)"] == "~3.2 · *2.8*"
        assert line_of("yolov9-m", measurement("yolov9-m", allocated_bytes=None))["Mem (GB)"] == "~3.2"

    def test_the_published_set_up_stands_in_brackets(self) -> None:
        """4.26 GiB; a record of a version without it shows ours alone."""
        steps = measurement().values["memory"]["training"] | {
            "published_setup": {"predicted_bytes": int(4.26 * 2**30)}
        }
        record = replace(measurement(), values={"memory": {"training": steps}})
        assert line_of("yolov8-n", record)["Mem (GB)"] == "**2.5** (~4.3) · *2.8*"
        on_cpu = replace(record, environment={"dirty": False, "device": "cpu"})
        assert line_of("yolov8-n", on_cpu)["Mem (GB)"] == "~3.2 (~4.3) · *2.8*"
        lines = csv.DictReader(io.StringIO(table.csv_text(evidence([on_cpu]))))
        line = next(line for line in lines if line["row"] == "yolov8-n")
        columns = ("memory_gib_predicted", "memory_gib_predicted_published_setup")
        assert [line[name] for name in columns] == ["3.2", "4.26"]

    @pytest.mark.parametrize("changes", [{"dirty": True}, {"batch_size": 32}])
    def test_other_code_and_another_batch_do_not_count(self, changes: dict[str, Any]) -> None:
        assert line_of("yolov8-n", measurement(**changes))["Mem (GB)"] == "*2.8*"

    @pytest.mark.parametrize("values", [{}, {"memory": None}, {"memory": {"training": None}}])
    def test_a_record_without_memory_is_passed_over(self, values: dict[str, Any]) -> None:
        assert line_of("yolov8-n", replace(measurement(), values=values))["Mem (GB)"] == "*2.8*"


def test_csv_keeps_published_and_measured_apart() -> None:
    found = [evaluation(), measurement("yolov9-c")]
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(table.csv_text(evidence(found))))}
    assert list(lines) == list(ROWS)
    line = lines["yolov9-c"]
    assert (line["box_ap_published"], line["box_ap_measured"]) == ("53.0", "53.12")
    assert (line["memory_gb_published"], line["memory_gib_measured"]) == ("", "2.5")
    assert line["box_ap_record"] == records.path_of(found[0], Path()).as_posix()
    assert lines["yolov9-e"]["box_ap_measured"] == lines["yolov9-e"]["box_ap_record"] == ""


README = "# Bench\r\nText\n\n<!-- table -->\nold\n<!-- /table -->\n\nMore\n".replace("\r", "")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with a record, a README and all that the report makes of them."""
    root = tmp_path_factory.mktemp("project")
    (root / "README.md").write_text(README)
    (root / "pyproject.toml").write_text("")
    records.write(evaluation(), root / "results")
    report.write(root / "results", root / "README.md")
    return root


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(written, tmp_path / "project"))


def checked(root: Path) -> None:
    report.check(root / "results", root / "README.md")


def markdown_of(page: Path) -> str:
    """A page, or the Markdown of a notebook's cells and outputs."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    shown = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    shown += [data["text/markdown"] for data in outputs if "text/markdown" in data]
    return "\n\n".join("".join(lines) for lines in shown)


def relative_links(page: Path) -> list[str]:
    """What a page links or embeds in its own tree, in Markdown as a forge shows it."""
    text = re.sub(r"```.*?```|`[^`]*`", "", markdown_of(page), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def broken_links(page: Path) -> list[str]:
    """Links to a file that is not there, or to an anchor or a heading that the file does not have."""
    broken = []
    for link in relative_links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        text = target.read_text(encoding="utf-8") if target.suffix == ".md" and target.is_file() else ""
        headings = re.findall(r"(?m)^#+ (.+)$", text)
        anchors = {heading.lower().replace(" ", "-") for heading in headings}
        anchors |= set(re.findall(r'<a id="([^"]+)">', text))
        if not target.exists() or (anchor and anchor not in anchors):
            broken.append(link)
    return broken


def test_every_link_of_the_generated_pages_leads_somewhere(project: Path) -> None:
    records.write(evaluation(inputs={"images": 100}, interval=[0.4, 0.6]), project / "results")
    report.write(project / "results", project / "README.md")
    pages = [project / "README.md", project / "results/table.md", project / "results/rows.md"]
    counts = [len(relative_links(page)) for page in pages]
    assert counts == [len(ROWS) + 1, len(ROWS) + 1, 1]  # a row each and a record; the page of rows its table
    assert [link for page in pages for link in broken_links(page)] == []
    (project / "results/rows.md").write_text("# Rows\n")
    assert len(broken_links(pages[0])) == len(ROWS)


def test_every_link_of_the_projects_pages_leads_somewhere() -> None:
    """Of the pages written by hand and of the executed notebooks too."""
    root = Path(__file__).parents[1]
    folders = (root, root / "results", root / "notebooks")
    pages = [path for folder in folders for kind in ("*.md", "*.ipynb") for path in folder.glob(kind)]
    assert {"README.md", "table.md", "rows.md", "table.ipynb"} <= {page.name for page in pages}
    assert [(page.name, link) for page in pages for link in broken_links(page)] == []


@pytest.mark.parametrize("folder", ["notebooks", "results"])
def test_the_table_in_its_notebook_links_from_source_and_executed_copy(folder: str) -> None:
    root = Path(__file__).parents[1]
    source = (root / "notebooks/table.ipynb").read_text(encoding="utf-8")
    (given,) = re.findall(r'table\.block\(evidence, checks, \\"(.+?)\\"\)', source)
    links = re.findall(r"\(([^)\s:]+)#[^)]+\)", table.block(evidence([]), [], given))
    assert len(links) == len(ROWS)
    assert all((root / folder / link).is_file() for link in links)


class TestFiles:
    def test_what_was_written_passes_its_own_check(self, written: Path) -> None:
        checked(written)
        names = sorted(path.name for path in (written / "results/figures").iterdir())
        drawn = [
            f"{name}{suffix}"
            for name in ("memory", "performance", "structures")
            for suffix in (".png", ".svg")
        ]
        assert names == ["SHA256SUMS", *drawn]

    def test_the_readme_changes_between_its_marks_only(self, written: Path) -> None:
        text = (written / "README.md").read_text()
        before, after = README.split("old\n")
        assert text.startswith(before) and text.endswith(after)
        assert "**53.1** · *53.0*" in text

    def test_texts_and_figures_are_stable_to_the_byte(self, written: Path, project: Path) -> None:
        report.write(project / "results", project / "README.md")
        files = sorted(path for path in written.rglob("*") if path.is_file())
        assert len(files) == 13  # README, pyproject.toml, a record, three pages, six figures and their hashes
        for path in files:
            assert path.read_bytes() == (project / path.relative_to(written)).read_bytes(), path.name

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("README.md", "**53.1**", "**54.1**"),
            ("results/table.md", "*55.6*", "*55.7*"),
            ("results/table.csv", "53.12", "54.12"),
            ("results/rows.md", "epochs: 500", "epochs: 300"),
            ("results/figures/performance.svg", "</svg>", "<!-- better --></svg>"),
        ],
    )
    def test_a_hand_edit_is_named(self, project: Path, name: str, old: str, new: str) -> None:
        path = project / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ReportError) as refused:
            checked(project)
        assert str(refused.value).startswith(f"{path.name}: ")

    def test_a_painted_over_image_is_named(self, project: Path) -> None:
        path = project / "results/figures/memory.png"
        path.write_bytes(path.read_bytes()[:-20] + bytes(20))
        with pytest.raises(ReportError, match=r"^memory\.png: "):
            checked(project)

    def test_a_list_of_hashes_that_is_none_is_drift(self, project: Path) -> None:
        (project / "results/figures/SHA256SUMS").write_text("no hash and no name of a file\n")
        with pytest.raises(ReportError, match=r"^performance\.svg, performance\.png, memory\.svg"):
            checked(project)

    @pytest.mark.parametrize("name", ["table.csv", "figures/structures.png", "figures/SHA256SUMS"])
    def test_a_missing_file_is_drift(self, project: Path, name: str) -> None:
        (project / "results" / name).unlink()
        with pytest.raises(ReportError):
            checked(project)

    def test_a_new_record_makes_pages_and_its_figure_stale(self, project: Path) -> None:
        records.write(evaluation("yolov9-e", 0.5561), project / "results")
        with pytest.raises(ReportError) as refused:
            checked(project)
        names = str(refused.value).partition(": ")[0].split(", ")
        assert names == ["table.md", "table.csv", "README.md", "performance.svg", "performance.png"]

    def test_a_readme_needs_the_marks_and_must_be_there(self, project: Path) -> None:
        (project / "README.md").write_text(README.replace("<!-- /table -->", ""))
        with pytest.raises(ReportError, match="<!-- /table -->"):
            checked(project)
        (project / "README.md").unlink()
        with pytest.raises(ReportError, match="--results"):
            checked(project)

    def test_files_carry_the_hash_of_what_they_show(self, written: Path) -> None:
        shown = figure_data.gather_performance(evidence(records.select(written / "results")))
        digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
        for name in ("performance.svg", "performance.png"):
            content = (written / "results/figures" / name).read_bytes()
            assert f"sha256 of the plotted data: {digest}".encode() in content
            assert b"dc:date" not in content
        sums = (written / "results/figures/SHA256SUMS").read_text().splitlines()
        assert len(sums) == 6
        for line in sums:
            digest, name = line.split("  ")
            assert hashlib.sha256((written / "results/figures" / name).read_bytes()).hexdigest() == digest

    def test_images_are_small(self, written: Path) -> None:
        drawn = list((written / "results/figures").glob("*.png"))
        assert len(drawn) == 3
        for path in drawn:
            assert path.stat().st_size < 250_000, path.name

    def test_images_keep_the_colours_of_the_marks(self, written: Path) -> None:
        """No palette: more than 256 colours, and the full marker of the measured row to the last bit."""
        pixels = cv2.imread(str(written / "results/figures/performance.png"))
        assert pixels is not None
        colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
        assert len(colours) > 256
        assert (0, 94, 213) in colours  # #d55e00, in OpenCV's order


def blocking(*modules: str) -> str:
    """Code that makes these imports fail; None in sys.modules would not do, since tyro looks there."""
    return (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {modules!r}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )


def test_the_command_line_needs_no_torch_and_checks_what_it_wrote(tmp_path: Path) -> None:
    """In a process where torch cannot be imported."""
    code = blocking("torch", "torchvision") + (
        "from yolov9bench.__main__ import main\n"
        f"sys.argv = ['yolov9bench', 'report', '--results', {str(tmp_path)!r}]\n"
        "written = main(); sys.argv.append('--check'); sys.exit(written or main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.md").is_file() and (tmp_path / "figures/performance.svg").is_file()


def test_the_check_needs_no_drawing_library(written: Path) -> None:
    code = blocking("torch", "matplotlib", "numpy", "PIL") + (
        "from yolov9bench.__main__ import main\n"
        "sys.argv = ['yolov9bench', 'report', '--check']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=written)
    assert done.returncode == 0, done.stderr


def test_drift_is_one_sentence_and_status_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "results/table.md").write_text("tampered")
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["yolov9bench", "report", "--check"])
    assert door.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("table.md: ") and said.count("\n") == 1


def test_the_papers_series_have_every_published_point(shared: Path) -> None:
    facts = json.loads((shared / "facts/mmyolo/performance_points.json").read_text(encoding="utf-8"))
    printed = {
        (row["series"].removesuffix(" (Ours)"), row["params_M"], row["flops_G"], row["AP"])
        for row in facts["rows"]
        if row["name"] != "GELAN-C ELAN1 CSP1"  # which the paper's figure leaves out
    }
    ours = {
        (series.name.removesuffix(" v3.0").removesuffix(" r7.0"), point.parameters_m, point.gflops, point.ap)
        for series in SERIES
        for line in series.lines
        for point in line
    }
    assert ours == printed
    assert [len(series.lines) for series in SERIES if series.name in ("YOLOv7", "RT DETR")] == [2, 2]
    assert len(SERIES) == 12


@pytest.mark.parametrize("name", figure_data.DRAWN_SPECS)
def test_a_skeleton_has_the_channels_of_the_network(name: str) -> None:
    spec = SPECS[name]
    boxes = lay_out(spec).boxes
    channels = {
        key: int(box.text.split("\n")[1].split()[0]) for key, box in boxes.items() if key[0] not in "hy"
    }
    assert tuple(channels[f"b{level}"] for level in range(5)) == level_widths(spec)
    assert tuple(channels[key] for key in ("t2", "u3", "u4")) == pyramid_widths(spec, bottom_up=True)
    if spec.aux == "pyramid":
        assert tuple(channels[f"x{level}"] for level in (2, 3, 4)) == pyramid_widths(spec, bottom_up=False)


@pytest.mark.parametrize(
    ("name", "links"), [("yolov8-s", 0), ("yolov9-s", 0), ("yolov9-c", 6), ("yolov9-e", 15)]
)
def test_a_reversible_backbone_is_fed_at_its_level_and_finer_ones(name: str, links: int) -> None:
    across = lay_out(SPECS[name]).across
    assert len(across) == len(set(across)) == links
    assert all(int(start[1]) >= int(end[1]) for start, end in across)


def everything_measured() -> list[Record]:
    """A made-up record of AP and one of memory for every row, so that no mark is missing."""
    found = []
    for row in ROWS.values():
        ap = ((row.published.box_ap or 50.0) - 0.2) / 100
        if row.download.sha256 or row.download.sha256_prefix:
            found.append(evaluation(row.id, ap))
        found.append(measurement(row.id))
    return found


@pytest.fixture(scope="module", params=["published", "measured"])
def drawn(request: pytest.FixtureRequest) -> dict[str, Figure]:
    """Every figure, of no record and of many."""
    found = evidence(everything_measured() if request.param == "measured" else [])
    figures = {
        "performance": performance.plot_performance(figure_data.gather_performance(found)),
        "memory": performance.plot_memory(figure_data.gather_memory(found)),
        "structures": structure.plot_structures(figure_data.gather_structures(found)),
    }
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def words(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every text that is drawn, and its place in pixels; ticks beyond the limits exist, but are not drawn."""
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text not in beyond and text.get_visible() and text.get_text().strip():
            yield text.get_text(), text.get_window_extent()


@pytest.mark.parametrize("name", ["performance", "memory", "structures"])
class TestFigures:
    def test_no_word_lies_on_another_or_beyond_the_edge(self, drawn: dict[str, Figure], name: str) -> None:
        figure = drawn[name]
        placed = list(words(figure))
        assert len(placed) > 20
        for (one, here), (other, there) in combinations(placed, 2):
            assert not here.padded(-1).overlaps(there.padded(-1)), (one, other)
        for one, place in placed:
            assert all(figure.bbox.padded(1).contains(*corner) for corner in (place.min, place.max)), one

    def test_every_axis_is_named(self, drawn: dict[str, Figure], name: str) -> None:
        first = drawn[name].axes[0]
        for axes in drawn[name].axes:
            assert axes.get_ylabel() or axes.get_shared_y_axes().joined(first, axes)
            assert axes.get_xlabel() or name == "structures"  # whose columns have headings of their own
            units = {"performance": ("(millions)", "(GFLOPs)"), "memory": ("GiB",), "structures": ("",)}[name]
            assert any(unit in axes.get_xlabel() for unit in units)


def marker_boxes(axes: Axes) -> Iterator[Bbox]:
    """The square that each marker fills, in pixels."""
    point = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    for line in axes.lines:
        width = line.get_markersize() * point
        for x, y in axes.transData.transform(line.get_xydata()):
            yield Bbox.from_bounds(x - width / 2, y - width / 2, width, width)


def named_points(axes: Axes) -> list[Annotation]:
    """The names and letters; the lines that tie some to their points have no text."""
    return [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]


def test_names_and_size_letters_lie_apart_on_the_axes_and_hide_no_marker(drawn: dict[str, Figure]) -> None:
    for axes in drawn["performance"].axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in named_points(axes)]
        letters = [*"nsmlx", *"tsmce"]  # of YOLOv8 and YOLOv9
        papers = [series.name for series in SERIES] + letters
        assert set(papers) <= {text for text, _ in boxes}
        assert [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b)] == []
        inside = [axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for _, box in boxes]
        assert all(inside), boxes
        markers = list(marker_boxes(axes))
        assert len(markers) > 80
        assert [text for text, box in boxes if any(map(box.overlaps, markers))] == []


def test_each_of_our_lines_is_named_at_its_end_in_its_colour(drawn: dict[str, Figure]) -> None:
    for axes in drawn["performance"].axes:
        ends: dict[str, set[tuple[float, float]]] = {}
        for line in axes.lines:
            if line.get_markerfacecolor() == "white" or line.get_linestyle() == "--":
                xy = [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
                ends.setdefault(to_hex(line.get_color()), set()).update(xy[-1:])
        named = {to_hex(text.get_color()): text for text in named_points(axes) if len(text.get_text()) > 1}
        looks = {to_hex(colour): name for name, (colour, _) in performance.LOOKS.items()}
        shown = {colour: places for colour, places in ends.items() if colour in looks and places}
        assert len(shown) in (4, 6)  # without and with the rows of Ultralytics
        for colour, places in shown.items():
            assert named[colour].get_text().replace("\n", " ") == looks[colour]
            assert named[colour].xy in places


def test_every_published_line_has_a_look_of_its_own() -> None:
    axes = performance.plot_performance(figure_data.gather_performance(evidence([]))).axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.8 and np.size(line.get_xdata())]
    lines = [line for series in SERIES for line in series.lines]
    assert len(thin) == len(lines) == 14
    looks = {(str(line.get_color()), str(line.get_marker())) for line in thin}
    assert len(looks) == len({marker for _, marker in looks}) == len(SERIES)


def test_memory_shows_every_prediction_and_says_what_has_none() -> None:
    found = evidence([measurement("yolov9-m", allocated_bytes=None), measurement("gelan-c", device="cpu")])
    data = figure_data.gather_memory(found)
    (axes,) = performance.plot_memory(data).axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    (predicted,) = [line for line in axes.lines if line.get_label() == "predicted"]
    assert [rows[int(place)] for place in np.asarray(predicted.get_ydata())] == ["yolov9-m", "gelan-c"]
    assert "ultralytics-yolov8n to ultralytics-yolov9e (10 rows)" in axes.get_xlabel()
    assert "no record has it: 15 rows" in axes.get_xlabel()
    assert {line.get_label() for line in axes.lines} == {"published", "predicted"}


def test_arrows_between_backbones_do_not_cross(drawn: dict[str, Figure]) -> None:
    """All of one colour: along a level, or up one line that no two backbones share with another arrow."""
    for axes, name in zip(drawn["structures"].axes, figure_data.DRAWN_SPECS, strict=True):
        arrows = [text for text in axes.texts if isinstance(text, Annotation) and not text.get_text()]
        across = [
            (arrow.xyann, arrow.xy)
            for arrow in arrows
            if arrow.arrowprops and arrow.arrowprops["color"] == structure.ACROSS
        ]
        along = [1 for start, end in across if start[1] == end[1]]
        up = [start for start, end in across if start[0] == end[0] and end[1] == start[1] - 1]
        levels = {"yolov9-c": 3, "yolov9-e": 5}.get(name, 0)
        assert (len(along), len(up), len(across)) == (levels, max(levels - 1, 0), max(2 * levels - 1, 0))
        assert len({x for x, _ in up}) <= 1


def test_a_size_letter_belongs_to_the_point_of_its_row(drawn: dict[str, Figure]) -> None:
    points = {
        "n": ((3.2, 37.2), (8.7, 37.2)),  # parameters in millions or GFLOPs, and AP, as mmyolo publishes them
        "x": ((68.2, 52.7), (257.8, 52.7)),
        "t": ((2.0, 38.3), (7.7, 38.3)),
        "e": ((57.3, 55.6), (189.0, 55.6)),
    }
    for number, axes in enumerate(drawn["performance"].axes):
        named = {(text.get_text(), text.xy) for text in named_points(axes)}
        assert {(letter, point[number]) for letter, point in points.items()} <= named


def test_texts_of_the_structures_fit_their_boxes(drawn: dict[str, Figure]) -> None:
    for axes in drawn["structures"].axes:
        boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, Rectangle)]
        inside = [text.get_window_extent() for text in axes.texts if "\n" in text.get_text()]
        fitting = [
            any(box.contains(*text.min) and box.contains(*text.max) for box in boxes) for text in inside
        ]
        assert len(boxes) >= 12 and fitting.count(False) <= 1  # the heading "second backbone"


def test_lines_are_told_apart_without_colour_too() -> None:
    colours, markers = zip(*performance.LOOKS.values(), strict=True)
    assert {to_hex(colour) for colour in colours} <= OKABE_ITO
    assert len(set(colours)) == len(set(markers)) == len(performance.LOOKS)


def test_a_published_point_is_hollow_and_a_measured_one_full() -> None:
    figure = performance.plot_performance(figure_data.gather_performance(evidence([evaluation()])))
    colour = performance.LOOKS["YOLOv9 (official)"][0]
    fillings = {
        line.get_markerfacecolor(): np.size(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_color() == colour and np.size(line.get_xdata())
    }
    assert fillings == {"white": 5, colour: 1}

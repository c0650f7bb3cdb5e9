"""The report: the table against the published one, which records count, and files that betray a change."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from report_records import evaluation, measurement

from yolov9bench import __main__ as door
from yolov9bench import records, report
from yolov9bench.errors import ReportError
from yolov9bench.plots import figure_data
from yolov9bench.records import Record
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.report import csv_table, rows_page, table
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS

TTA = asdict(MMYOLO_TTA)


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
        assert (line["Interval"], line["Protocol"]) == ("37.1 to 43.3 (percentiles)", "yolov9")
        assert "53" not in "".join(text for name, text in line.items() if name != "Record")

    def test_subsets_under_several_protocols_read_one_below_another(self) -> None:
        """Protocols by name, a custom file last; each with images, AP, interval, and its record's file."""
        row, subset = "ultralytics-yolov8n", {"images": 100, "annotations_sha256": "0" * 64}
        found = [
            evaluation(
                row,
                0.3912,
                protocol=asdict(PROTOCOLS[name]),
                inputs=subset,
                interval=ends,
                method="half-samples",
            )
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
        lines = csv.DictReader(io.StringIO(csv_table.csv_text(evidence([on_cpu]))))
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
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(csv_table.csv_text(evidence(found))))}
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
    (given,) = re.findall(r'table\.block\(evidence, checks, \\"(.+?)\\", own, compared\)', source)
    links = re.findall(r"\(([^)\s:]+)#[^)]+\)", table.block(evidence([]), [], given))
    assert len(links) == len(ROWS)
    assert all((root / folder / link).is_file() for link in links)


class TestFiles:
    def test_what_was_written_passes_its_own_check(self, written: Path) -> None:
        checked(written)
        names = sorted(path.name for path in (written / "results/figures").iterdir())
        drawn = [
            f"{name}{suffix}"
            for name in ("checks", "memory", "performance", "structures")
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
        assert len(files) == 16  # README, pyproject.toml, record, four pages, eight figures, their hashes
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
        with pytest.raises(ReportError, match=r"^checks\.svg, checks\.png, memory\.svg"):
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
        assert len(sums) == 8
        for line in sums:
            digest, name = line.split("  ")
            assert hashlib.sha256((written / "results/figures" / name).read_bytes()).hexdigest() == digest

    def test_images_are_small(self, written: Path) -> None:
        drawn = list((written / "results/figures").glob("*.png"))
        assert len(drawn) == 4
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
    (tmp_path / "records").mkdir()
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

"""Comparisons of speed: turns, what a process took, ratios by hand, peers that fail or are not there."""

import json
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from yolov9bench import speed as flow
from yolov9bench.config import SpeedConfig, config_from
from yolov9bench.data.coco import read_coco
from yolov9bench.errors import ProcessError, SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.plots.speed import Timed, plot_speed
from yolov9bench.profiling import peers
from yolov9bench.profiling.peer_data import write_peer_data
from yolov9bench.profiling.processes import Run, Spread, paired_ratio, spread_of, time_in_turn, time_process
from yolov9bench.profiling.speed import describe_absent, figure_of, table_of, write_speed

SCRIPTS = Path(peers.__file__).parent


def test_ways_take_turns_and_rounds_begin_with_the_next() -> None:
    called: list[str] = []

    def way(name: str, seconds: float) -> Any:
        def run() -> Run:
            called.append(name)
            return Run(seconds + len(called), seconds, 1)

        return run

    found = time_in_turn({"a": way("a", 1), "b": way("b", 2), "c": way("c", 3)}, rounds=4)
    assert "".join(called) == "abc" + "bca" + "cab" + "abc"
    assert {name: [run.cpu for run in runs] for name, runs in found.items()} == {
        "a": [1] * 4,
        "b": [2] * 4,
        "c": [3] * 4,
    }
    assert [run.wall for run in found["a"]] == [1 + 1, 1 + 6, 1 + 8, 1 + 10]


def test_ratios_are_of_each_round_by_itself() -> None:
    """A slow minute in the second round, which counts for both: 2, 3 and 4 times, where medians give 4."""
    assert spread_of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert paired_ratio([1.0, 10.0, 2.0], [2.0, 30.0, 8.0]) == Spread(3.0, 2.0, 4.0)
    assert str(Spread(1.234, 0.5, 20)) == "1.23 [0.50, 20.00]"


def child(program: str) -> tuple[Run, str]:
    return time_process([sys.executable, "-c", program], os.environ, Path.cwd())


def test_a_process_is_measured_by_itself() -> None:
    """Half a second of work, .4 s of sleep, 300 MB: beside this process, which holds more."""
    program = (
        "import time; began = time.process_time()\n"
        "while time.process_time() - began < .5: pass\n"
        "kept = bytearray(300 * 2**20); kept[::4096] = b'x' * len(kept[::4096])\n"
        "time.sleep(.4); print('last')"
    )
    held = bytearray(600 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    run, text = child(program)
    assert text == "last\n" and run.ap is None
    assert run.cpu > 0.5 and run.wall > 0.9
    assert 300 * 2**20 < run.memory < 400 * 2**20


def test_a_process_that_fails_is_its_last_line() -> None:
    with pytest.raises(ProcessError, match=r"ended with 3: ModuleNotFoundError: no \\x1b"):
        child("import sys; print('ModuleNotFoundError: no \\x1b\\n'); sys.exit(3)")
    with pytest.raises(ProcessError, match="ended with 1: without a word"):
        child("import os; os._exit(1)")
    with pytest.raises(ProcessError, match="ended with -9"):
        child("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ProcessError, match=r"no-such-program.*ended with 1"):
        time_process(["/no-such-program"], os.environ, Path.cwd())


def test_a_system_that_does_not_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "wait4")
    with pytest.raises(SettingsError, match="measure on Linux or macOS"):
        child("")


def test_the_peers_data_set_is_the_same_one(painted: Path, tmp_path: Path) -> None:
    """Read again: the same images and objects; boxes of the text files are those of the annotations."""
    dataset = read_coco(painted, "val")
    description = json.loads(write_peer_data(dataset, tmp_path / "data").read_text())
    again = read_coco(tmp_path / "data")
    assert [(each.id, each.width, each.height) for each in again.images] == [
        (each.id, each.width, each.height) for each in dataset.images
    ]
    assert again.annotations == dataset.annotations and again.categories == dataset.categories
    assert description["names"] == {str(place): name for place, name in enumerate(dataset.names)}
    for image in dataset.images:
        assert (tmp_path / f"data/images/val/{image.id:012d}.png").read_bytes() == dataset.image_path(
            image
        ).read_bytes()
        lines = (tmp_path / f"data/labels/val/{image.id:012d}.txt").read_text().splitlines()
        own = [each for each in dataset.annotations if each["image_id"] == image.id and not each["iscrowd"]]
        for line, entry in zip(lines, own, strict=True):
            label, x, y, width, height = map(float, line.split())
            sides = [x - width / 2, y - height / 2, width, height]
            scale = [image.width, image.height] * 2
            pixels = [share * side for share, side in zip(sides, scale, strict=True)]
            assert dataset.categories[int(label)][0] == entry["category_id"]
            assert pixels == pytest.approx(entry["bbox"], abs=1e-3)


def test_boxes_of_the_text_files_end_at_the_image(painted: Path, tmp_path: Path) -> None:
    """A box of 20 px that begins 5 px before the left border is one of 15 px from it."""
    dataset = read_coco(painted, "val")
    image, entry = dataset.images[0], dataset.annotations[0]
    moved = [entry | {"bbox": [-5, image.height - 10, 20, 30]}]
    write_peer_data(replace(dataset, images=(image,), annotations=moved), tmp_path / "data")
    _, *shares = map(float, (tmp_path / f"data/labels/val/{image.id:012d}.txt").read_text().split())
    scaled = [share * side for share, side in zip(shares, [image.width, image.height] * 2, strict=True)]
    assert scaled == pytest.approx([7.5, image.height - 5, 15, 10], abs=1e-3)


@pytest.mark.parametrize("own", [(1, 2), (44, 46)])
def test_detections_of_ultralytics_have_categories_of_their_own(painted: Path, own: tuple[int, int]) -> None:
    """Of a data set whose categories are 3 and 7: every object found, and then every class mistaken.

    Ultralytics numbers labels from 1 itself, or as COCO does: it says how.
    """
    dataset = read_coco(painted, "val")
    new = {number: other for (number, _), other in zip(dataset.categories, (3, 7), strict=True)}
    dataset = replace(
        dataset,
        categories=tuple((new[number], name) for number, name in dataset.categories),
        annotations=[each | {"category_id": new[each["category_id"]]} for each in dataset.annotations],
    )
    rows = [
        {
            "image_id": each["image_id"],
            "category_id": own[each["category_id"] == 7],
        }
        | {"bbox": each["bbox"], "score": 0.9}
        for each in dataset.annotations
        if not each["iscrowd"]
    ]
    assert flow.ap_of_ultralytics(dataset, rows, own) == 1.0
    assert flow.ap_of_ultralytics(dataset, rows, own[::-1]) == 0.0


@pytest.mark.parametrize("library", ["pycocotools", "hotcoco"])
def test_metrics_by_another_library_are_ours(
    library: str, painted: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    record = evaluate(
        tiny_weights, painted, "yolov9", "val", image_size=64, detections=tmp_path / "found.json"
    )
    files = [str(painted / "annotations/instances_val.json"), str(tmp_path / "found.json")]
    script = str(SCRIPTS / "coco_metrics_by.py")
    _, text = time_process([sys.executable, script, library, *files], os.environ, tmp_path)
    metrics = [value for name, value in record.values.items() if name[:2] in ("AP", "AR")][:12]
    assert flow.last_line(text)["metrics"] == pytest.approx(metrics, abs=1e-12)


@pytest.mark.parametrize("text", ["", "\n", "Killed", '[{"a": 1}]', "3", '{"a": 1}\nlast words'])
def test_a_peer_without_a_result_is_a_sentence(text: str) -> None:
    with pytest.raises(ProcessError, match="not with its result"):
        flow.last_line(text)
    assert flow.last_line('warning\n{"a": 1}\n\n') == {"a": 1}


def test_a_python_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not followed: beside it lies what makes it an environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert flow.absolute_program("bin/python") == str(tmp_path / "bin/python")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert flow.absolute_program("python") == str(tmp_path / "bin/python")
    assert flow.absolute_program("auto") == sys.executable


def test_a_python_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(ProcessError, match="does not start: no such library"):
        flow.find_versions(str(broken))


FAKE = """#!{python}
import json, sys, os
if sys.argv[1] == "-c":
    print(json.dumps({{"ultralytics": "9.9"}}))
elif sys.argv[1].endswith("ultralytics_val.py"):
    weights, data, folder, shape, threads = sys.argv[2:]
    assert (shape, threads, os.environ["OMP_NUM_THREADS"]) == ("square", "1", "1") and os.path.exists(data)
    assert os.environ["MPLBACKEND"] == "Agg"
    rows = json.load(open({found!r}))
    json.dump(rows, open(folder + "/peer.json", "w"))
    print("words\\n" + json.dumps({{"result": folder + "/peer.json", "categories": [1, 2]}}))
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


@pytest.fixture
def peer(painted: Path, tmp_path: Path) -> Path:
    """A Python with a peer of its own, that finds every object, and counts categories from 1."""
    dataset = read_coco(painted, "val")
    places = {number: place for place, (number, _) in enumerate(dataset.categories, start=1)}
    rows = [
        {"image_id": each["image_id"], "category_id": places[each["category_id"]]}
        | {"bbox": each["bbox"], "score": 0.9}
        for each in dataset.annotations
        if not each["iscrowd"]
    ]
    found = tmp_path / "all.json"
    found.write_text(json.dumps(rows))
    python = tmp_path / "peer-python"
    python.write_text(FAKE.format(python=sys.executable, found=str(found)))
    python.chmod(0o755)
    return python


@pytest.mark.slow(40)
def test_a_comparison_beside_a_peer(
    peer: Path, painted: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round of all, from a notebook: each way's AP is that of what its own run wrote."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    asked = SpeedConfig(
        checkpoint=str(tiny_weights),
        dataset=str(painted),
        split="val",
        limit=None,
        rounds=1,
        threads=1,
        peer_python=str(peer),
        results_dir=str(tmp_path / "out"),
    )
    found = flow.measure_speed(asked)
    own = evaluate(tiny_weights, painted, "ultralytics-square", "val")
    assert list(found.evaluations) == ["yolov9bench", "yolov9bench, bfloat16", "ultralytics"]
    assert [run.ap for run in found.evaluations["ultralytics"]] == [1.0]
    (ours,) = found.evaluations["yolov9bench"]
    assert ours.ap == pytest.approx(own.values["AP"], abs=1e-5)
    assert list(found.metrics) == ["hotcoco", "pycocotools"]
    metrics = {run.ap for runs in found.metrics.values() for run in runs}
    assert len(metrics) == 1 and metrics.pop() == pytest.approx(own.values["AP"], abs=1e-5)
    assert found.absent == ("faster-coco-eval", "onnxruntime") and found.versions == {"ultralytics": "9.9"}
    assert all(len(each) == 1 and min(each) > 0 for each in found.network.values())
    assert found.differences["PyTorch, plain"] == 0 < found.differences["PyTorch, bfloat16"] < 0.2
    rows = table_of(found)
    assert [row["way"] for row in rows[:3]] == list(found.evaluations)
    assert rows[2]["accuracy"] == "AP 1.00000" and rows[0]["times the first's CPU s"].startswith("1.00")
    assert "pip install" in describe_absent(found)[0] and len(describe_absent(found)) == 2
    written = json.loads(write_speed(found, tmp_path / "out")[0].read_text())
    assert str(tmp_path) not in json.dumps(written)
    assert isinstance(figure_of(found), Figure)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "mmyolo"}, "there is no protocol 'mmyolo'"),
        ({"rounds": 0}, "rounds is 0: give 1 or more"),
        ({"threads": 0}, "threads is 0"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_what_cannot_be_asked(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SpeedConfig(**given)


def test_paths_are_looked_at_first(painted: Path, tiny_weights: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"checkpoint": str(tiny_weights), "dataset": str(painted)}
    SpeedConfig(**given, results_dir=str(tmp_path)).require_paths()
    for change, said in (
        ({"checkpoint": "missing.pt"}, "checkpoint missing.pt does not exist"),
        ({"dataset": "missing"}, "dataset missing does not exist"),
        ({"peer_python": "no-such-python"}, "peer_python no-such-python is no program"),
    ):
        with pytest.raises(SettingsError, match=said):
            SpeedConfig(**given | change, results_dir=str(tmp_path)).require_paths()


def test_a_misspelt_parameter_of_the_notebook_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'rounds'"):
        config_from({"round": 3}, SpeedConfig)


def widths(figure: Figure, panel: int) -> Sequence[float]:
    return [bar.get_width() for bar in figure.axes[panel].patches]  # type: ignore[attr-defined]


def test_bars_are_medians_and_each_has_its_accuracy() -> None:
    ways = [Timed("ours", [3, 1, 2], [1, 1, 1], "AP 0.5"), Timed("$other$", [4, 8, 6], [5, 5, 5], "AP 0.25")]
    figure = plot_speed({"evaluations": ways, "nothing": [], "metrics": ways[:1]})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["evaluations", "metrics"]
    assert widths(figure, 0) == [2, 6, 1, 5] and widths(figure, 1) == [2, 1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["AP 0.5", "AP 0.25"]
    spreads = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines]
    assert spreads == [[1, 3], [4, 8], [1, 1], [5, 5]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ours", "$other$"]
    assert plot_speed({}).axes


def test_the_package_lists_its_peers() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]["peers"]
    assert {each.split(">")[0] for each in extras} == {
        "ultralytics",
        "faster-coco-eval",
        "onnx",
        "onnxruntime",
    }

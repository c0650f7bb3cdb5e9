"""Networks for other class counts than 80: widths, parameters, files and training, as in the references."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic import depthwise, foreign_tensors

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.nn import Detector, build
from yolov9bench.nn.detector import skeleton
from yolov9bench.profiling.flops import count_parameters
from yolov9bench.train.checkpoint import read_checkpoint, resume, save_checkpoint
from yolov9bench.train.job import Job, configuration_of
from yolov9bench.train.state import make_state
from yolov9bench.train.trainer import prepare
from yolov9bench.weights import load, save
from yolov9bench.weights.names import Format
from yolov9bench.zoo import RECIPES, ROWS, Row
from yolov9bench.zoo.specs import PARAMETERS, SPECS, Head, Reference, Spec, for_classes, yolov8

COUNTS = (1, 2, 3, 80, 100, 120, 365, 601)
DFL = 16  # frozen numbers a head, which the references count as parameters and this library does not


def widths(spec: Spec) -> tuple[int, ...]:
    return tuple(head.class_width for head in (spec.head, spec.aux_head) if head is not None)


def count(name: str, classes: int, reference: Reference, fused: bool = False) -> int:
    return count_parameters(skeleton(for_classes(SPECS[name], classes, reference), classes, fused))


def references(name: str) -> list[Reference]:
    """Whose code builds a Spec; YOLOv8 is that of two."""
    if name.startswith("ultralytics"):
        return ["ultralytics"]
    return ["mmyolo", "ultralytics"] if name.startswith("yolov8") else ["official"]


@pytest.mark.parametrize(
    ("name", "reference"), [(name, reference) for name in SPECS for reference in references(name)]
)
def test_every_spec_states_the_width_of_80_classes(name: str, reference: Reference) -> None:
    """By a rule of its reference, so that the width follows the class count: some count changes it."""
    spec = SPECS[name]
    assert for_classes(spec, 80, reference) == spec
    p3 = spec.top_down[1].out
    limits = {"mmyolo": 9_999, "ultralytics": 100, "official": 128}
    assert for_classes(spec, 9_999, reference).head.class_width == max(p3, limits[reference])
    assert for_classes(spec, 1, reference).head.class_width == p3


@pytest.mark.parametrize(
    ("name", "reference", "expected"),
    [
        # By hand from the channels of P3 and each reference's formula; of both heads where there are two.
        ("yolov8-n", "ultralytics", {1: [64], 64: [64], 65: [65], 100: [100], 101: [100], 601: [100]}),
        ("yolov8-n", "mmyolo", {1: [64], 64: [64], 65: [65], 100: [100], 101: [101], 601: [601]}),
        ("yolov8-s", "ultralytics", {1: [128], 200: [128]}),
        ("yolov8-s", "mmyolo", {1: [128], 128: [128], 200: [200]}),
        ("yolov8-x", "mmyolo", {1: [320], 320: [320], 365: [365]}),
        ("ultralytics-yolov9t", "ultralytics", {1: [64], 3: [64], 90: [90], 365: [100]}),
        ("ultralytics-yolov9m", "ultralytics", {1: [240], 365: [240]}),
        ("gelan-t", "official", {1: [64], 32: [64], 40: [80], 63: [126], 64: [128], 365: [128]}),
        ("gelan-t-80", "official", {1: [64], 64: [64], 100: [100], 128: [128], 365: [128]}),
        ("yolov9-t", "official", {1: [64, 64], 40: [80, 80], 365: [128, 128]}),
        ("yolov9-t-80", "official", {1: [64, 64], 90: [90, 90], 365: [128, 128]}),
        ("yolov9-m", "official", {1: [240, 240], 365: [240, 240]}),
        ("yolov9-c", "official", {1: [256, 512], 365: [256, 512]}),
        ("yolov9-e", "official", {1: [256, 256], 365: [256, 256]}),
    ],
)  # fmt: skip
def test_widths_by_hand(name: str, reference: Reference, expected: dict[int, list[int]]) -> None:
    found = {classes: list(widths(for_classes(SPECS[name], classes, reference))) for classes in expected}
    assert found == expected


def test_only_the_class_widths_change() -> None:
    spec = SPECS["yolov9-t"]
    narrow = for_classes(spec, 1, "official")
    assert spec.aux_head is not None and narrow.aux_head is not None
    back = replace(narrow, head=replace(narrow.head, class_width=128))
    assert replace(back, aux_head=replace(narrow.aux_head, class_width=128)) == spec


def test_a_reversible_auxiliary_head_stands_behind_the_backbones_p3() -> None:
    """Its least width is that of its own input: 64 channels here, where the pyramid's P3 has 256."""
    spec = SPECS["yolov9-c"]
    first, second, third, fourth = spec.stages
    second = replace(second, block=replace(second.block, out=64))
    spec = replace(spec, stages=(first, second, third, fourth), aux_head=Head("grouped", 64, 128))
    assert widths(for_classes(spec, 1, "official")) == (256, 64)
    entry = skeleton(spec, 1).state_dict()["aux.head.classes.0.0.conv.weight"]
    assert entry.shape[1] == 64


def test_a_width_of_its_own_stays() -> None:
    """A network of ours with a width that no reference gives keeps it, whatever the class count."""
    small = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 24))
    assert for_classes(small, 365, "mmyolo") == small


@pytest.mark.parametrize(
    ("name", "classes", "trainable"),
    [("yolov8-n", 1, 3_011_027), ("yolov8-n", 2, 3_011_222), ("yolov8-s", 1, 11_135_971)],
)
@pytest.mark.parametrize("reference", ["ultralytics", "mmyolo"])
def test_parameters_of_users_trainings(name: str, classes: int, trainable: int, reference: Reference) -> None:
    """Gradients in the model summaries that Ultralytics printed in trainings that users have published."""
    assert count(name, classes, reference) == trainable


def test_parameters_of_a_users_folded_training() -> None:
    """yolov9-s with its auxiliary branch for one class: a printed summary, which counts two projections."""
    assert count("yolov9-s", 1, "official", fused=True) == 9_598_022 - 2 * DFL


@pytest.mark.parametrize(
    ("size", "millions"), [("n", 3.5), ("s", 11.4), ("m", 26.2), ("l", 44.1), ("x", 68.7)]
)
def test_parameters_for_open_images(size: str, millions: float) -> None:
    """The 601 classes of Open Images V7: Ultralytics' documentation, models/yolov8. Unlimited, n has 15.9."""
    assert round(count(f"yolov8-{size}", 601, "ultralytics") / 1e6, 1) == millions


def class_branches(channels: tuple[int, ...], width: int, classes: int) -> int:
    """Weights of three dense class branches: 3x3, 3x3 with norms, 1x1 with bias."""
    return sum(9 * one * width + 9 * width**2 + 4 * width + (width + 1) * classes for one in channels)


@pytest.mark.parametrize("classes", COUNTS)
def test_parameters_of_mmyolo_in_closed_form(classes: int) -> None:
    """Without a limit: the width of n is the class count from 64 on."""
    levels = (64, 128, 256)
    others = PARAMETERS["yolov8-n"] - class_branches(levels, 80, 80)
    expected = others + class_branches(levels, max(64, classes), classes)
    assert count("yolov8-n", classes, "mmyolo") == expected


def test_the_one_class_head_of_a_real_training(shared: Path) -> None:
    spec = for_classes(depthwise("ultralytics-yolov9t"), 1, "ultralytics")
    assert count_parameters(skeleton(spec, 1)) == 1_765_107
    checkpoint = load(shared / "weights/yolov9t_one_class.pt", training=True)
    assert (checkpoint.spec, checkpoint.parameters_trainable) == (spec, 1_765_107)


def random_detector(spec: Spec, classes: int) -> Detector:
    """Without initialisation, which takes long for many classes."""
    detector = skeleton(spec, classes)
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else torch.tensor(1)
        for key, value in detector.state_dict().items()
    }
    detector.load_state_dict(state, assign=True)
    return detector


def require_equal(found: Detector, expected: Detector) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    "classes",
    [1, 120, *(pytest.param(each, marks=pytest.mark.accuracy) for each in COUNTS if each not in (1, 120))],
)
@pytest.mark.parametrize(
    ("form", "name", "reference"),
    [
        ("official", "yolov9-t", "official"),
        ("ultralytics", "yolov8-n", "ultralytics"),
        ("ultralytics", "ultralytics-yolov9t", "ultralytics"),
        ("mmyolo", "yolov8-n", "mmyolo"),
        ("multimediatechlab", "yolov9-t", "official"),
    ],
)
def test_files_of_any_class_count(
    tmp_path: Path, form: Format, name: str, reference: Reference, classes: int
) -> None:
    """Read with the Spec that the reference builds, and the same again from our own file."""
    spec = for_classes(SPECS[name], classes, reference)
    original = random_detector(spec, classes)
    torch.save(OrderedDict(foreign_tensors(original, form)), tmp_path / "foreign.pt")
    checkpoint = load(tmp_path / "foreign.pt", training=True)
    assert (checkpoint.format, checkpoint.spec) == (form, spec)
    assert checkpoint.detector.num_classes == classes
    require_equal(checkpoint.detector, original)
    save(tmp_path / "own.pt", checkpoint.detector, dict(enumerate(map(str, range(classes)))))
    again = load(tmp_path / "own.pt", training=True)
    assert (again.format, again.spec) == ("yolov9bench", spec)
    require_equal(again.detector, original)


@pytest.mark.parametrize(
    ("name", "classes"), [("gelan-t", 40), ("gelan-t-80", 100), ("yolov9-t", 40), ("yolov9-t-80", 100)]
)
def test_a_file_goes_by_the_network_and_not_by_its_width(tmp_path: Path, name: str, classes: int) -> None:
    """The official t for 40 classes is 80 wide, as the published t for 80; the latter is 100 wide for 100."""
    original = random_detector(for_classes(SPECS[name], classes, "official"), classes)
    torch.save(OrderedDict(foreign_tensors(original, "official")), tmp_path / "foreign.pt")
    assert load(tmp_path / "foreign.pt", training=True).spec == original.spec


def test_our_old_files_keep_the_width_that_they_state(tmp_path: Path) -> None:
    """Earlier versions trained a yolov8-n for one class with a class branch of 80 channels."""
    old = random_detector(SPECS["yolov8-n"], 1)
    save(tmp_path / "old.pt", old, {0: "ball"}, row="yolov8-n")
    checkpoint = load(tmp_path / "old.pt", training=True)
    assert (checkpoint.spec, checkpoint.parameters_trainable) == (SPECS["yolov8-n"], 3_137_987)
    require_equal(checkpoint.detector, old)


def with_classes(dataset: CocoDataset, names: list[str]) -> CocoDataset:
    return replace(dataset, categories=tuple(enumerate(names, start=1)))


def job(row: Row, root: Path, names: list[str], start: Path | None = None) -> Job:
    """A training that is begun and not run."""
    dataset = with_classes(read_coco(root, "val"), names)
    return Job(row, RECIPES["small"], dataset, dataset, root / "run", start=start)


@pytest.mark.parametrize(
    ("row", "classes", "width", "trainable"),
    [
        ("yolov8-n", 1, 64, 3_011_027),
        ("ultralytics-yolov8n", 1, 64, 3_011_027),
        ("yolov8-n", 120, 120, 3_559_064),
        ("ultralytics-yolov8n", 120, 100, 3_352_184),
        ("yolov9-t", 1, 64, None),
    ],
)
def test_a_training_builds_what_the_rows_source_builds(
    tiny: Path, row: str, classes: int, width: int, trainable: int | None
) -> None:
    """The counts of 120 classes: the closed form above, 100 wide where Ultralytics ends."""
    state, _ = prepare(job(ROWS[row], tiny, [f"class {number}" for number in range(classes)]))
    assert set(widths(state.detector.spec)) == {width}
    assert trainable in (None, count_parameters(state.detector))
    assert count_parameters(state.ema.detector) == count_parameters(state.detector)


def test_a_one_class_file_starts_a_one_class_training(tiny: Path) -> None:
    given = random_detector(for_classes(SPECS["yolov8-n"], 1, "ultralytics"), 1)
    torch.save(OrderedDict(foreign_tensors(given, "ultralytics")), tiny / "ball.pt")
    state, _ = prepare(job(ROWS["yolov8-n"], tiny, ["ball"], tiny / "ball.pt"))
    require_equal(state.detector, given)


def test_a_run_of_an_earlier_version_goes_on_with_its_own_width(tiny: Path) -> None:
    """Its last.pt has a class branch of 80 channels for one class; another row ignores it."""
    again = job(ROWS["yolov8-n"], tiny, ["ball"])
    old = make_state(random_detector(SPECS["yolov8-n"], 1), again.recipe, again.batch_size, again.precision)
    save_checkpoint(again, old, configuration_of(again), watch=None)
    content = read_checkpoint(again)
    assert content is not None
    state, _ = prepare(again, content)
    resume(again, state, configuration_of(again), content)
    require_equal(state.detector, old.detector)
    assert widths(prepare(replace(again, row=ROWS["yolov8-s"]), content)[0].detector.spec) == (128,)


def test_building_directly_keeps_the_width_of_the_spec() -> None:
    """`build` makes what a Spec says; only `for_classes` changes it."""
    assert count_parameters(build(SPECS["yolov8-n"], classes=1)) == 3_137_987

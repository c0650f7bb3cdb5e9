"""Starting from a checkpoint: each class by its name, and what does not fit is named."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic import lively

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import Detector, build
from yolov9bench.nn.head import last_bias
from yolov9bench.weights import load, save
from yolov9bench.weights.start import fit_class_width, take_weights
from yolov9bench.zoo.specs import SPECS, Block, Head, Spec, Stage, for_classes, with_class_width, yolov8

HEAD = Head("grouped", 16, 32)
SPEC = replace(yolov8("small", (8, 8, 16, 16, 16), (1, 1), HEAD), aux="pyramid", aux_head=HEAD)
NAMES = {0: "cat", 1: "dog", 2: "bird"}


@pytest.fixture(scope="module")
def given() -> Detector:
    """A network with an auxiliary branch in which each class has its own scores."""
    detector = lively(SPEC, classes=3)
    generator = torch.Generator().manual_seed(1)
    for branch in (detector.main, detector.aux):
        assert branch is not None
        for level in branch.head.classes:
            torch.nn.init.normal_(last_bias(level), generator=generator)
    return detector


def deeper(stage: Stage) -> Stage:
    return replace(stage, block=replace(stage.block, depth=stage.block.depth + 1))


def wider(block: Block) -> Block:
    return replace(block, out=24, split=24, part=12)


def scores(detector: Detector) -> list[torch.Tensor]:
    """The class logits of one noise image: six maps, of both heads and all levels."""
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        outputs = detector.eval()(image)
    return [level.class_logits for levels in outputs if levels is not None for level in levels]


def require_labels(found: Detector, given: Detector, labels: list[int]) -> None:
    """Label by label, the scores of the given detector's labels, in both heads."""
    ours, theirs = scores(found), scores(given)
    assert len(ours) == len(theirs) == 6
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other[:, labels], atol=1e-5)


def started(path: Path, names: list[str], spec: Spec = SPEC) -> Detector:
    detector = build(spec, len(names), seed=5)
    take_weights(detector, path, names)
    return detector


@pytest.mark.parametrize(
    ("names", "labels", "sentence"),
    [
        (["bird", "Cat", "dog"], [2, 0, 1], r"in another order \(label 0 is 'cat' there and 'bird' in"),
        (["cat", "bird", "dog"], [0, 2, 1], r"in another order \(label 1 is 'dog' there and 'bird' in"),
        ([" CAT", "dog", "bird"], [0, 1, 2], None),
    ],
)  # fmt: skip
def test_a_class_keeps_its_weights(
    tmp_path: Path,
    given: Detector,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    labels: list[int],
    sentence: str | None,
) -> None:
    """Witness: what the file's own network scores for the class of that name."""
    save(tmp_path / "given.pt", given, NAMES)
    with caplog.at_level(logging.WARNING):
        found = started(tmp_path / "given.pt", names)
    require_labels(found, given, labels)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (sentence is not None)
    assert sentence is None or re.search(sentence, messages[0])


def test_a_file_without_names_is_taken_label_by_label_and_says_so(
    tmp_path: Path, given: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "given.pt", given, names=None)
    with caplog.at_level(logging.WARNING):
        found = started(tmp_path / "given.pt", ["dog", "cat", "bird"])
    require_labels(found, given, [0, 1, 2])
    assert "given.pt names no classes" in caplog.text


def test_labels_that_do_not_count_from_0_are_refused(tmp_path: Path, given: Detector) -> None:
    save(tmp_path / "given.pt", given, {1: "cat", 2: "dog", 3: "bird"})
    with pytest.raises(CheckpointError, match=r"has the labels \[1, 2, 3\]: label its classes from 0 up"):
        started(tmp_path / "given.pt", ["cat", "dog", "bird"])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (replace(SPEC, stem=4), r"backbone\.stem\.conv\.weight is \(8, 3, 3, 3\) in the file, \(4"),
        (replace(SPEC, stages=(*SPEC.stages[:3], deeper(SPEC.stages[3]))),
         r"backbone\.stages\.3\.block\.parts\.1\.\S+ is missing in the file \(and \d+ more tensors"),
        (replace(SPEC, top_down=(wider(SPEC.top_down[0]), wider(SPEC.top_down[1]))),
         r"main\.pyramid\.\S+ is \(.*start from a checkpoint of the same network"),
    ],
)  # fmt: skip
def test_another_network_is_refused(tmp_path: Path, given: Detector, spec: Spec, sentence: str) -> None:
    """By the first tensor and its shapes; the network is left as it was."""
    save(tmp_path / "given.pt", given, NAMES)
    detector = build(spec, 3, seed=5)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"given\.pt holds another network .*{sentence}"):
        take_weights(detector, tmp_path / "given.pt", list(NAMES.values()))
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "fresh", "sentence"),
    [
        (SPEC, "", r"starts \d+ of the \d+ tensors of small$"),
        (with_class_width(SPEC, 16), r"(main|aux)\.head\.classes",
         r"fresh are main\.head\.classes\.0\.0, .* 6 more layers, 42 tensors of the auxiliary branch$"),
        (replace(SPEC, aux=None, aux_head=None), "", r"left out are \d+ tensors of the auxiliary branch$"),
        (replace(SPEC, head=replace(SPEC.head, form="dense")), r"main\.head\.boxes\.\d\.[12]",
         r"fresh are main\.head\.boxes\.0\.1, main\.head\.boxes\.0\.2, .*1\.1, 3 more layers$"),
        (replace(SPEC, head=replace(SPEC.head, form="depthwise")), r"main\.head\.(boxes\.\d\.[12]|classes)",
         r"fresh are main\.head\.boxes\.0\.1"),
        (replace(SPEC, top_down=(replace(SPEC.top_down[0], depth=2), SPEC.top_down[1])),
         r"(main|aux)\.pyramid\.top_down\.0\.(exit\.conv|parts\.1)", r"fresh are main\.pyramid\.top_down\.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_begins_fresh_and_is_named(
    tmp_path: Path, given: Detector, caplog: pytest.LogCaptureFixture, spec: Spec, fresh: str, sentence: str
) -> None:
    """Tensor by tensor: the file's, or that of the network before, by what the parts' names say."""
    save(tmp_path / "given.pt", given, NAMES)
    with caplog.at_level(logging.INFO):
        found = started(tmp_path / "given.pt", list(NAMES.values()), spec)
    before, theirs = build(spec, 3, seed=5).state_dict(), given.state_dict()
    begun = {key for key in before if fresh and re.match(fresh, key)}
    assert bool(begun) == bool(fresh)
    for key, value in found.state_dict().items():
        assert torch.equal(value, (before if key in begun else theirs)[key]), key
    (message,) = (record.getMessage() for record in caplog.records)
    assert f"starts {len(before) - len(begun)} of the {len(before)} tensors" in message
    assert re.search(sentence, message)


@pytest.mark.parametrize(
    ("names", "labels", "sentence"),
    [
        (["bird"], [2], "every class keeps its weights by name, of the 3 there"),
        (["wolf", "Dog"], [None, 1], r"1 of 2 classes keep their weights by name; given\.pt has no 'wolf'$"),
        (
            ["dog", "cat", "fish"],
            [1, 0, None],
            "2 of 3 classes keep their weights by name; .* has no 'fish'$",
        ),
        (["a", "b", "c", "d", "e"], [None] * 5, r"0 of 5 .* has no 'a', 'b', 'c' and 2 more$"),
    ],
)
def test_other_classes_start_from_a_file(
    tmp_path: Path,
    given: Detector,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    labels: list[int | None],
    sentence: str,
) -> None:
    """A class of the file scores as it does there, a new one by the fresh rows of its last layers."""
    save(tmp_path / "given.pt", given, NAMES)
    found, fresh = started(tmp_path / "given.pt", names), build(SPEC, len(names), seed=5).state_dict()
    assert re.search(sentence, caplog.records[0].getMessage())
    known = [own for own, label in enumerate(labels) if label is not None]
    theirs = [label for label in labels if label is not None]
    for one, other in zip(scores(found), scores(given), strict=True):
        assert torch.allclose(one[:, known], other[:, theirs], atol=1e-5)
    new = [own for own, label in enumerate(labels) if label is None]
    for key, value in found.state_dict().items():
        if re.search(r"head\.classes\.\d\.2\.", key):
            assert torch.equal(value[new], fresh[key][new]), key


def test_a_file_without_names_and_with_other_classes_gives_none(
    tmp_path: Path, given: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "given.pt", given, names=None)
    found, fresh = started(tmp_path / "given.pt", ["dog", "cat"]), build(SPEC, 2, seed=5)
    assert torch.equal(last_bias(found.main.head.classes[0]), last_bias(fresh.main.head.classes[0]))
    assert "given.pt names no classes: its class weights begin fresh" in caplog.text


def test_a_real_file_starts_rows_whose_networks_agree(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A depthwise head of Ultralytics 8.3.3, without auxiliary branch, for two rows of that network."""
    path = shared / "weights/yolov9t_one_class.pt"
    theirs = load(path, training=True).detector.state_dict()
    for name, width in (("ultralytics-yolov9t", 64), ("yolov9-t-80", 80)):
        found = started(path, ["ball"], with_class_width(SPECS[name], width)).state_dict()
        same = [key for key in found if not key.startswith(("main.head", "aux."))]
        assert all(torch.equal(found[key], theirs[key]) for key in same)
    assert "tensors of the auxiliary branch; left out are main.head.classes.0.0" in caplog.text
    with pytest.raises(CheckpointError, match=r"another network .*, or train the row yolov8-n$"):
        started(shared / "weights/yolov8n.pt", ["ball"], SPECS["yolov8-s"])


def test_80_classes_start_a_training_of_two(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All but the last class layers, weight and bias at three levels: 6 of 354 tensors; known classes too.

    For two classes the references narrow the class branch to 64 channels, where the file has 80.
    """
    path = shared / "weights/yolov8n.pt"
    spec = fit_class_width(for_classes(SPECS["yolov8-n"], 2, "mmyolo"), path)
    assert spec == SPECS["yolov8-n"]
    started(path, ["ripe", "unripe"], spec)
    assert "yolov8n.pt starts 348 of the 354 tensors of yolov8-n; fresh are main.head.cl" in caplog.text
    found, theirs = started(path, ["person", "ball"], spec), load(path).detector
    ours = last_bias(found.main.head.classes[0])
    assert ours[0] == last_bias(theirs.main.head.classes[0])[0]
    assert "starts 354 of the 354 tensors of yolov8-n; 1 of 2 classes keep" in caplog.text


def test_a_narrower_class_branch_or_one_of_another_kind_decides_no_width(
    tmp_path: Path, given: Detector
) -> None:
    save(tmp_path / "given.pt", given, NAMES)
    width = SPEC.head.class_width
    for spec in (with_class_width(SPEC, width + 1), replace(SPEC, head=Head("depthwise", 16, 8))):
        assert fit_class_width(spec, tmp_path / "given.pt").head == spec.head
    assert fit_class_width(with_class_width(SPEC, width - 1), tmp_path / "given.pt") == SPEC

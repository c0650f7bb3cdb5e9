"""Starting from a checkpoint: each class by its name, and what does not fit is named."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic import depthwise, lively, narrowed

from yolov9bench.errors import CheckpointError
from yolov9bench.nn import Detector, build
from yolov9bench.nn.head import last_bias
from yolov9bench.weights import save
from yolov9bench.weights.start import take_weights
from yolov9bench.zoo.specs import SPECS, Spec, with_class_width

SPEC = narrowed(SPECS["yolov9-t"], by=4)
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
        (["dog", "cat", "fish"], [0, 1, 2],
         r"other classes \(3 of 3 labels differ: 0 is 'cat' there and 'dog' .*; 2 is 'bird' there and 'fi"),
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
    ("spec", "names", "sentence"),
    [
        (SPEC, ["cat"], r"given\.pt detects 3 classes and the data set has 1: start from a checkpoint with"),
        # Its class branch is narrower too, which follows from the class count and is no reason of its own.
        (with_class_width(SPEC, 16), ["cat"], r"detects 3 classes and the data set has 1"),
        (with_class_width(SPEC, 16), ["cat", "dog", "bird"],
         r"main\.head\.classes\.0\.0\.conv\.weight is \(32, 16, 3, 3\) in the file, \(16, 16, 3, 3\)"),
        (replace(SPEC, stem=8), ["cat"], r"backbone\.stem\.conv\.weight is \(4, 3, 3, 3\) in the file, \(8"),
        (replace(SPEC, aux=None, aux_head=None), ["cat", "dog", "bird"],
         r"aux\.pyramid\.pool\.entry\.conv\.weight is in the file alone \(and \d+ more tensors"),
        (replace(SPEC, head=replace(SPEC.head, form="dense")), ["cat", "dog", "bird"],
         r"its head is grouped, not dense, so that main\.head\.boxes\.0\.1\.conv\.weight is \(16, 4, 3, 3\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    tmp_path: Path, given: Detector, spec: Spec, names: list[str], sentence: str
) -> None:
    """By the tensor and its shapes, or by the class counts; the network is left as it was."""
    save(tmp_path / "given.pt", given, NAMES)
    detector = build(spec, len(names), seed=5)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with pytest.raises(CheckpointError, match=sentence):
        take_weights(detector, tmp_path / "given.pt", names)
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_a_real_depthwise_head_is_named(shared: Path) -> None:
    """A file of Ultralytics 8.3.3, whose heads are depthwise, for the dense network of the same row."""
    path = shared / "weights/yolov9t_one_class.pt"
    dense = with_class_width(SPECS["ultralytics-yolov9t"], 64)
    with pytest.raises(CheckpointError, match=r"its head is depthwise, not dense, so that main\.head\.class"):
        started(path, ["ball"], dense)
    started(path, ["ball"], with_class_width(depthwise("ultralytics-yolov9t"), 64))

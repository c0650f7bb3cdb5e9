"""What a command need not load or build before it begins, and that it finds the same without."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from synthetic import depthwise, foreign_tensors

from yolov9bench.nn.detector import skeleton
from yolov9bench.predict import postprocess
from yolov9bench.predict.postprocess import load_nms, suppress_boxes
from yolov9bench.weights import identify
from yolov9bench.weights.formats import Contents
from yolov9bench.weights.identify import CANDIDATES, best_candidate, shape_agreement
from yolov9bench.weights.names import Format
from yolov9bench.zoo.specs import SPECS, Spec

SUPPRESS = """
import sys, torch
from yolov9bench.predict.postprocess import suppress_boxes
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]])
assert suppress_boxes(boxes, torch.tensor([0.7, 0.9, 0.8]), 0.5).tolist() == [1, 2]
assert not {"torchvision", "torch._dynamo"} & set(sys.modules)
import torchvision
assert torchvision.ops.nms(boxes, torch.tensor([0.7, 0.9, 0.8]), 0.5).tolist() == [1, 2]
"""


@pytest.mark.slow
def test_suppression_loads_no_compiler() -> None:
    """And the package can still be imported behind it."""
    done = subprocess.run([sys.executable, "-c", SUPPRESS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [None, b"no library"], ids=["none", "another"])
def test_without_a_library_of_its_own_the_package_suppresses(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "_C.so").write_bytes(content)
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(postprocess, "find_spec", lambda name: package)
    assert load_nms.__wrapped__() is torchvision.ops.nms


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_the_operator_alone_suppresses_as_the_package_does(iou: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(500, 2, generator=generator) * 100
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(500, 2, generator=generator)], dim=1)
    scores = torch.rand(500, generator=generator)
    found = suppress_boxes(boxes, scores, iou)
    assert 20 < len(found) < 480
    assert torch.equal(found, torchvision.ops.nms(boxes, scores, iou))


def contents_of(form: Format, tensors: dict[str, torch.Tensor]) -> Contents:
    return Contents(form, "a file", tensors, None, (), None)


@pytest.mark.parametrize(
    ("form", "spec"),
    [
        ("official", SPECS["gelan-t"]),  # whose stem other candidates share
        ("official", SPECS["yolov9-m"]),
        ("mmyolo", SPECS["yolov8-l"]),
        ("ultralytics", depthwise("ultralytics-yolov9c")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_best_candidate_is_that_of_all(form: Format, spec: Spec) -> None:
    """Of a whole file, and of files that fit none wholly: without its stem, and without its pyramid."""
    whole = foreign_tensors(skeleton(spec, 3), form)
    parts = [
        dict(list(whole.items())[start:end]) for start, end in ((0, None), (6, None), (0, len(whole) // 2))
    ]
    for tensors in parts:
        contents = contents_of(form, tensors)
        fits = [shape_agreement(contents, each) for each in CANDIDATES[form]]
        expected = CANDIDATES[form][fits.index(max(fits))]
        assert best_candidate(contents, CANDIDATES[form]) == (expected, max(fits))


def test_a_whole_file_needs_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def agreement(contents: Contents, spec: Spec) -> float:
        tried.append(spec.name)
        return shape_agreement(contents, spec)

    monkeypatch.setattr(identify, "shape_agreement", agreement)
    contents = contents_of("ultralytics", foreign_tensors(skeleton(SPECS["yolov8-m"], 80), "ultralytics"))
    best_candidate(contents, CANDIDATES["ultralytics"])
    assert tried == ["yolov8-m"]

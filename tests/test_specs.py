"""Architectures as facts: their parameters and arithmetic against the references' own counts."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import depthwise

from yolov9bench.nn import build
from yolov9bench.nn.detector import skeleton
from yolov9bench.profiling.flops import count_gflops, count_parameters
from yolov9bench.zoo.specs import (
    GELAN,
    PARAMETERS,
    SPECS,
    YOLOV8,
    YOLOV9,
    Spec,
    spec_from_dict,
    with_class_width,
)

# The references count the fixed projection of the box bins: 16 numbers, and 8400 cells x 4 sides x 16 bins.
DFL_PARAMETERS = 16
DFL_GFLOPS = 2 * 8400 * 4 * 16 / 1e9
ROUNDING = 0.5e-4  # the official figures are kept to four decimals

DUAL_AND_GELAN = [spec.name for spec in (*YOLOV9, *GELAN)]
ULTRALYTICS = {f"yolov9{size}": SPECS[f"ultralytics-yolov9{size}"] for size in "tsmce"}
ULTRALYTICS |= {f"yolov8{size}": SPECS[f"yolov8-{size}"] for size in "nsmlx"}
ULTRALYTICS |= {
    f"{name}.dwhead": depthwise(ULTRALYTICS[name].name) for name in ("yolov9t", "yolov9c", "yolov8n")
}


def figures(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def heads(spec: Spec) -> int:
    return 1 if spec.aux is None else 2


def test_each_spec_has_its_name_and_count() -> None:
    assert all(spec.name == name for name, spec in SPECS.items())
    assert PARAMETERS.keys() == SPECS.keys()
    assert len({replace(spec, name="") for spec in SPECS.values()}) == len(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_parameters(name: str) -> None:
    assert count_parameters(skeleton(SPECS[name], 80)) == PARAMETERS[name]


@pytest.mark.parametrize("classes", [1, 3, 300])
@pytest.mark.parametrize("name", ["yolov8-m", "yolov9-t", "yolov9-c", "gelan-e"])
def test_parameters_of_other_class_counts(name: str, classes: int) -> None:
    """A class costs one weight for each channel before it and one bias, at three levels of each head."""
    spec = SPECS[name]
    widths = [head.class_width for head in (spec.head, spec.aux_head) if head is not None]
    less = (80 - classes) * 3 * sum(width + 1 for width in widths)
    assert count_parameters(skeleton(spec, classes)) == PARAMETERS[name] - less


def test_parameters_of_a_built_detector() -> None:
    assert count_parameters(build(SPECS["yolov8-n"])) == PARAMETERS["yolov8-n"]


@pytest.mark.parametrize(("name", "count"), [("gelan-c", 25_227_859), ("yolov9-c", 50_698_278)])
def test_folded_parameters_of_one_class(name: str, count: int) -> None:
    """Model summaries of trainings for one class, as users have published them."""
    spec = SPECS[name]
    assert count_parameters(skeleton(spec, 1, fused=True)) == count - DFL_PARAMETERS * heads(spec)


def test_the_published_t_is_the_one_of_80_channels() -> None:
    """The official table has 2.0 M parameters and 7.7 GFLOPs for T; 128 channels would give 2.4 and 9.8."""
    folded = skeleton(SPECS["gelan-t-80"], 80, fused=True)
    assert (round(count_parameters(folded) / 1e6, 1), round(count_gflops(folded), 1)) == (2.0, 7.7)
    other = skeleton(SPECS["gelan-t"], 80, fused=True)
    assert (round(count_parameters(other) / 1e6, 1), round(count_gflops(other), 1)) == (2.4, 9.8)


def test_class_width_is_that_of_both_heads() -> None:
    wide = with_class_width(SPECS["yolov9-c"], 99)
    assert wide.aux_head is not None
    assert (wide.head.class_width, wide.aux_head.class_width) == (99, 99)
    assert (wide.head.box_width, wide.aux_head.box_width) == (64, 128)
    assert with_class_width(SPECS["gelan-c"], 99).aux_head is None


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_survives_json(name: str) -> None:
    spec = SPECS[name]
    assert spec_from_dict(json.loads(json.dumps(asdict(spec)))) == spec


def test_what_is_no_spec_is_refused() -> None:
    fields = asdict(SPECS["gelan-t"])
    with pytest.raises(TypeError):
        spec_from_dict({**fields, "wings": 2})
    with pytest.raises(KeyError):
        spec_from_dict({key: value for key, value in fields.items() if key != "pool"})


def test_arithmetic_of_one_convolution_by_hand() -> None:
    """The stem alone, doubled in width, costs twice: 27 products for each of 16 channels of 320 x 320 cells.

    The wider stem enters the next layer too: 9 x 16 more products for 32 channels of 160 x 160 cells.
    """
    spec = SPECS["gelan-t"]
    narrow, wide = (skeleton(type(spec)(**{**vars(spec), "stem": stem}), 80) for stem in (16, 32))
    more = 2 * (27 * 16 * 320**2 + 9 * 16 * 32 * 160**2) / 1e9
    assert count_gflops(wide) - count_gflops(narrow) == pytest.approx(more, abs=1e-9)


def test_arithmetic_grows_with_the_area() -> None:
    twin = skeleton(SPECS["yolov8-n"], 80)
    assert count_gflops(twin, 320) == pytest.approx(count_gflops(twin) / 4, rel=1e-12)


def test_measuring_leaves_a_detector_as_it_was() -> None:
    detector = build(SPECS["yolov8-n"], classes=2)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    count_gflops(detector, 64)
    count_parameters(detector)
    assert detector.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize("name", DUAL_AND_GELAN)
def test_official_figures(shared: Path, name: str) -> None:
    """Folded figures of the dual networks include the auxiliary branch, as the reference's do."""
    expected = figures(shared / "facts/yolov9/models.json")[name]
    spec = SPECS[name]
    plain, folded = skeleton(spec, 80), skeleton(spec, 80, fused=True)
    projections = heads(spec)
    assert count_parameters(plain) == expected["params_train_trainable"]
    assert count_parameters(folded) == expected["params_fused"] - DFL_PARAMETERS * projections
    for twin, key in ((plain, "gflops_train_conv_only"), (folded, "gflops_fused_conv_only")):
        measured = count_gflops(twin) + DFL_GFLOPS * projections
        assert measured == pytest.approx(expected[key], abs=1.01 * ROUNDING), f"{key}: {measured}"


@pytest.mark.parametrize("name", ULTRALYTICS)
def test_ultralytics_figures(shared: Path, name: str) -> None:
    """Its unfolded GFLOPs count normalisation too, so the folded ones are compared."""
    expected = figures(shared / "facts/more_formats/ultra_models.json")[name]
    spec = ULTRALYTICS[name]
    folded = skeleton(spec, 80, fused=True)
    assert count_parameters(skeleton(spec, 80)) == expected["params_trainable"]
    assert count_parameters(folded) == expected["params_fused"] - DFL_PARAMETERS
    measured = count_gflops(folded) + DFL_GFLOPS
    assert measured == pytest.approx(expected["gflops_fused"], abs=1e-6), f"measured {measured}"


def test_ultralytics_figures_of_one_class(shared: Path) -> None:
    expected = figures(shared / "facts/more_formats/ultra_models.json")["yolov9t.dwhead.nc1"]
    spec = with_class_width(depthwise("ultralytics-yolov9t"), 64)
    folded = skeleton(spec, 1, fused=True)
    assert count_parameters(skeleton(spec, 1)) == expected["params_trainable"]
    assert count_parameters(folded) == expected["params_fused"] - DFL_PARAMETERS
    assert count_gflops(folded) + DFL_GFLOPS == pytest.approx(expected["gflops_fused"], abs=1e-6)


@pytest.mark.parametrize("spec", YOLOV8, ids=lambda spec: spec.name)
def test_mmyolo_figures(shared: Path, spec: Spec) -> None:
    """mmyolo holds the projection as a buffer and outside the count of its convolutions."""
    expected = figures(shared / "facts/mmyolo/models.json")[spec.name[-1]]
    plain = skeleton(spec, 80)
    assert count_parameters(plain) == expected["params"]
    assert count_gflops(plain) == pytest.approx(expected["gflops_2xmac"], abs=1e-9)


@pytest.mark.parametrize("size", "tsmc")
def test_multimediatechlab_figures(shared: Path, size: str) -> None:
    expected = figures(shared / "facts/more_formats/mtl_models.json")[f"v9-{size}"]
    dual, main = SPECS[f"yolov9-{size}"], SPECS[f"gelan-{size}"]
    assert count_parameters(skeleton(dual, 80)) == expected["trainable"]
    assert count_parameters(skeleton(main, 80)) == expected["main_only_params"] - 3 * DFL_PARAMETERS

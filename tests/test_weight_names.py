"""Rename tables: against the complete key lists of the references, and a few pairs written down by hand."""

from pathlib import Path

import pytest
from synthetic import NETWORKS, Listed, foreign_tensors, key_list

from yolov9bench.nn.detector import skeleton
from yolov9bench.weights.identify import CANDIDATES
from yolov9bench.weights.names import Format, is_constant, rename_table
from yolov9bench.zoo.specs import SPECS, Spec

# Networks that this library has not: ReLU, or a third head.
FOREIGN = {"gelan", "yolov9", "yolov9-cf"}


@pytest.mark.parametrize(
    ("form", "name", "own", "foreign"),
    [
        ("official", "yolov9-s", "backbone.stages.1.block.parts.0.0.bottlenecks.1.first.one.norm.weight",
         "model.4.cv2.0.m.1.cv1.conv2.bn.weight"),
        ("official", "yolov9-c", "backbone.stages.1.block.parts.0.0.bottlenecks.1.first.one.norm.weight",
         "model.5.cv2.0.m.1.cv1.conv2.bn.weight"),
        ("official", "yolov9-s", "main.head.boxes.0.2.weight", "model.29.cv4.0.2.weight"),
        ("official", "yolov9-s", "aux.head.classes.2.0.conv.weight", "model.29.cv3.2.0.conv.weight"),
        ("official", "yolov9-e", "main.reversible.projections.4.bias", "model.14.conv.bias"),
        ("official", "yolov9-e", "aux.pyramid.top_down.1.exit.conv.weight", "model.35.cv4.conv.weight"),
        ("official", "yolov9-c", "aux.reversible.projections.0.weight", "model.23.conv.weight"),
        ("official", "gelan-t", "main.pyramid.pool.exit.conv.weight", "model.9.cv5.conv.weight"),
        ("official", "gelan-t", "backbone.stages.0.block.parts.1.conv.weight", "model.2.cv3.conv.weight"),
        ("multimediatechlab", "yolov9-s",
         "backbone.stages.1.block.parts.0.0.bottlenecks.1.first.one.norm.weight",
         "4.conv2.0.bottleneck.1.conv1.conv2.bn.weight"),
        ("multimediatechlab", "yolov9-c", "aux.head.boxes.1.2.bias", "38.heads.1.anchor_conv.2.bias"),
        ("multimediatechlab", "yolov9-t", "aux.head.classes.1.2.bias", "30.heads.1.class_conv.2.bias"),
        ("multimediatechlab", "yolov9-t", "backbone.stages.1.down.wide.norm.bias", "3.conv.bn.bias"),
        ("mmyolo", "yolov8-n", "backbone.stages.1.block.parts.1.second.norm.running_var",
         "backbone.stage2.1.blocks.1.conv2.bn.running_var"),
        ("mmyolo", "yolov8-n", "main.pyramid.pool.entry.conv.weight", "backbone.stage4.2.conv1.conv.weight"),
        ("mmyolo", "yolov8-n", "main.head.classes.2.2.bias", "bbox_head.head_module.cls_preds.2.2.bias"),
        ("ultralytics", "yolov8-n", "main.pyramid.bottom_up.1.block.exit.norm.bias", "model.21.cv2.bn.bias"),
        ("ultralytics", "ultralytics-yolov9c", "backbone.stages.2.down.pooled.conv.weight",
         "model.5.cv2.conv.weight"),
    ],
)  # fmt: skip
def test_pairs_by_hand(form: Format, name: str, own: str, foreign: str) -> None:
    """Layer numbers and part names as the references' documentation of their layers has them."""
    assert rename_table(SPECS[name], form, [own]) == {own: foreign}


@pytest.mark.parametrize(
    ("form", "spec"),
    [(form, spec) for form, specs in CANDIDATES.items() for spec in specs],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_key_has_a_name_of_its_own(form: Format, spec: Spec) -> None:
    keys = list(skeleton(spec, 80).state_dict())
    table = rename_table(spec, form, keys)
    assert list(table) == keys
    assert len(set(table.values())) == len(keys)


def test_two_keys_of_one_name_are_refused() -> None:
    keys = ["backbone.stem.norm.weight", "backbone.stem.bn.weight"]  # both are model.0.bn.weight there
    with pytest.raises(ValueError, match="official rename table of gelan-t maps two of our keys to one"):
        rename_table(SPECS["gelan-t"], "official", keys)


def test_our_own_format_keeps_our_names() -> None:
    assert rename_table(SPECS["gelan-t"], "yolov9bench", ["a.b"]) == {"a.b": "a.b"}


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("official", "model.29.dfl2.conv.weight"),
        ("ultralytics", "model.22.dfl.conv.weight"),
        ("multimediatechlab", "22.heads.0.anc2vec.anc2vec.weight"),
        ("mmyolo", "bbox_head.head_module.proj"),
    ],
)
def test_dfl_constants(form: Format, key: str) -> None:
    assert is_constant(key, form)
    assert not is_constant(key.replace("weight", "bias").replace("proj", "projection.weight"), form)
    assert not is_constant(key, "yolov9bench")


@pytest.mark.parametrize("listed", NETWORKS.values(), ids=NETWORKS)
def test_keys_and_shapes_are_the_references(shared: Path, listed: Listed) -> None:
    """Ours, renamed, are the reference's very keys, shapes and kinds; only its DFL constants remain."""
    entries = key_list(shared / listed.path)
    constants = [entry for entry in entries if is_constant(entry.key, listed.form)]
    ours = foreign_tensors(listed.skeleton(), listed.form)
    found = {key: (tuple(value.shape), value.is_floating_point()) for key, value in ours.items()}
    assert found == {
        entry.key: (entry.shape, entry.dtype == "float32") for entry in entries if entry not in constants
    }
    heads = {"mmyolo": 0, "multimediatechlab": 6}.get(listed.form, 1 + (listed.spec.aux is not None))
    assert len(constants) == heads
    assert {entry.shape[:2] for entry in constants} <= {(1, 16)}


@pytest.mark.parametrize("size", "tsmce")
def test_converting_keeps_our_keys(shared: Path, size: str) -> None:
    """The references' conversion moves a tensor between two keys that are one key of ours."""
    gelan, dual = SPECS[f"gelan-{size}"], SPECS[f"yolov9-{size}"]
    by_converted = inverted(gelan)
    by_dual = inverted(dual)
    entries = key_list(shared / f"facts/yolov9/state_dict_keys/yolov9-{size}-converted.txt")
    pairs = [
        (by_converted[entry.key], by_dual[entry.source or ""])
        for entry in entries
        if not is_constant(entry.key, "official")
    ]
    assert [(converted, source) for converted, source in pairs if converted != source] == []
    assert len(pairs) == len(by_converted)
    assert {own for own in by_dual.values() if not own.startswith("aux.")} == set(by_converted.values())


def inverted(spec: Spec) -> dict[str, str]:
    """Official keys -> ours."""
    table = rename_table(spec, "official", skeleton(spec, 80).state_dict())
    return {foreign: own for own, foreign in table.items()}


@pytest.mark.parametrize("size", "tsmc")
def test_multimediatechlab_and_official_agree(shared: Path, size: str) -> None:
    """The list's official key and its own are one key of ours."""
    spec = SPECS[f"yolov9-{size}"]
    official = inverted(spec)
    table = rename_table(spec, "multimediatechlab", official.values())
    entries = key_list(shared / NETWORKS[f"mtl_v9-{size}"].path)
    sources = {
        entry.key: entry.source for entry in entries if not is_constant(entry.key, "multimediatechlab")
    }
    assert {foreign: official[source or ""] for foreign, source in sources.items()} == {
        foreign: own for own, foreign in table.items()
    }


def test_no_key_list_is_left_out(shared: Path) -> None:
    folders = ("yolov9", "more_formats", "mmyolo")
    lists = [path for folder in folders for path in (shared / "facts" / folder).glob("state_dict_keys/*.txt")]
    known = {shared / listed.path for listed in NETWORKS.values()}
    left = {path.name.removesuffix(".txt").removesuffix(".fused") for path in lists if path not in known}
    assert left == FOREIGN | {f"yolov9-{size}-converted" for size in "tsmce"}

"""Rows and recipes against the published table, the release's hashes, the paper's figures and the goldens."""

import json
import math
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.errors import SettingsError
from yolov9bench.zoo import PARAMETERS, RECIPES, ROWS, SPECS, Recipe, Row, find_row
from yolov9bench.zoo.listing import row_text, rows_json, rows_table
from yolov9bench.zoo.rows import row, row_of_file

MMYOLO = [line for line in ROWS.values() if line.source == "mmyolo"]
OFFICIAL = [line for line in ROWS.values() if line.source == "official"]
ULTRALYTICS = [line for line in ROWS.values() if line.source == "ultralytics"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_zoo_imports_with_the_standard_library_alone() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'numpy', 'matplotlib', 'cv2', 'requests', 'yaml'):\n"
        "    sys.modules[name] = None\n"
        "import yolov9bench.zoo, yolov9bench.zoo.listing\n"
        "print(len(yolov9bench.zoo.ROWS))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "27"), done.stderr


def test_row_ids() -> None:
    yolov8 = [f"yolov8-{size}{end}" for size in "nsmlx" for end in ("", "-mask-refine")]
    official = [f"yolov9-{size}" for size in "tsmce"] + ["gelan-c", "gelan-e"]
    foreign = [f"ultralytics-yolov8{size}" for size in "nsmlx"]
    foreign += [f"ultralytics-yolov9{size}" for size in "tsmce"]
    assert list(ROWS) == yolov8 + official + foreign
    assert all(line.id == key for key, line in ROWS.items())


def test_files_are_distinct_and_named_by_their_address() -> None:
    assets = [asset for line in ROWS.values() for asset in line.assets]
    assert len({asset.url for asset in assets}) == len(assets)
    for asset in assets:
        assert asset.url.startswith("https://")
        assert asset.url.endswith("/" + asset.name)
        assert len(asset.bytes) == len(asset.sha256)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in asset.sha256)
        assert (asset.hash_sources > 0) == bool(asset.sha256)


def test_facts_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ROWS["yolov9-c"].published.box_ap = 60.0  # type: ignore[misc]


def test_the_ten_rows_are_the_published_table(shared: Path) -> None:
    published = read(shared / "facts/mmyolo/table.json")["rows"]
    assert len(published) == len(MMYOLO) == 10
    for line, expected in zip(MMYOLO, published, strict=True):
        ours = {
            "backbone": line.backbone,
            "arch": line.arch,
            "size": line.image_size,
            "mask_refine": line.mask_refine,
            "syncbn": line.syncbn,
            "amp": line.amp,
            "mem_gb": line.published.memory_gb,
            "box_ap": line.published.box_ap,
            "box_ap_gain_over_plain": line.box_ap_gain,
            "box_ap_text": line.box_ap_text,
            "tta_box_ap": line.published.tta_box_ap,
            "config": line.config,
            "model_url": line.download.url,
            "log_url": line.log_url,
        }
        assert ours == {key: value for key, value in expected.items() if key != "metafile"}
        assert line.recipe is not None and line.recipe.run.epochs == expected["metafile"]["epochs"]


def test_the_published_table_by_hand() -> None:
    assert [line.box_ap_text for line in MMYOLO] == [
        *("37.2", "37.4 (+0.2)", "44.2", "45.1 (+0.9)", "49.8"),
        *("50.6 (+0.8)", "52.1", "53.0 (+0.9)", "52.7", "54.0 (+1.3)"),
    ]
    assert [line.published.box_ap for line in OFFICIAL] == [38.3, 46.8, 51.4, 53.0, 55.6, 52.5, 55.0]
    assert [line.published.box_ap for line in ULTRALYTICS] == [
        *(37.3, 44.9, 50.2, 52.9, 53.9),
        *(38.3, 46.8, 51.4, 53.0, 55.6),
    ]
    for line in (*OFFICIAL, *ULTRALYTICS):
        assert line.published.tta_box_ap is None
        assert line.published.memory_gb is None
        assert line.box_ap_gain is None


def test_the_release_has_the_sizes_and_hashes_seen_in_public(shared: Path) -> None:
    text = (shared / "facts/downloads.md").read_text(encoding="utf-8")
    pattern = r"^\| (\S+\.pt) \| ([\d,]+) \| ([0-9a-f]{64}) \| (one|two)\b"
    expected = {
        name: (int(size.replace(",", "")), digest, {"one": 1, "two": 2}[places])
        for name, size, digest, places in re.findall(pattern, text, flags=re.MULTILINE)
    }
    ours = {
        asset.name: (asset.bytes[0], asset.sha256[0], asset.hash_sources)
        for line in OFFICIAL
        for asset in line.assets
        if asset.sha256
    }
    assert ours == expected
    assert len(ours) == 8
    section = text.split("## Ultralytics")[1].split("## COCO")[0]
    pairs = re.findall(r"([\d,]+) bytes\s+([0-9a-f]{64})", section)
    seen = [
        (f"{size:,}", digest)
        for line in ULTRALYTICS
        for size, digest in zip(line.download.bytes, line.download.sha256, strict=True)
    ]
    assert seen[: len(pairs)] == pairs
    later = {line.size: line.download for line in ULTRALYTICS if line.family == "yolov8"}
    for size in "nsmlx":  # saved again with the same tensors: a few kilobytes more, in the pickle alone
        first, second = later[size].bytes
        assert 10_000 < second - first < 30_000
        assert later[size].sha256[0] != later[size].sha256[1]
    assert len(seen) == 12  # and one each of two YOLOv9, which are leads


def test_only_hashes_that_can_be_trusted_refuse_a_file() -> None:
    strict = {asset.name for line in (*OFFICIAL, *ULTRALYTICS) for asset in line.assets if asset.strict}
    released = {f"yolov8{size}.pt" for size in "nsmlx"}
    assert strict == {f"yolov9-{size}-converted.pt" for size in "tce"} | released
    assert all(line.download.strict for line in MMYOLO)
    assert ROWS["gelan-c"].download.sha256 == ()


def test_figures_are_those_of_the_paper(shared: Path) -> None:
    points = read(shared / "facts/mmyolo/performance_points.json")
    printed = {point["name"]: point for point in points["rows"]}
    columns = {
        "box_ap": "AP",
        "ap50": "AP50",
        "ap75": "AP75",
        "ap_small": "APs",
        "ap_medium": "APm",
        "ap_large": "APl",
        "parameters_m": "params_M",
        "gflops": "flops_G",
    }
    for line in OFFICIAL:
        if line.id == "yolov9-t":
            continue
        point = printed[f"{line.backbone[:-1]}{line.size.upper()} (Ours)"]
        ours = {column: getattr(line.published, field) for field, column in columns.items()}
        assert ours == {column: point[column] for column in columns.values()}, line.id
    tiny = ROWS["yolov9-t"].published
    figures = f"{tiny.box_ap}/{tiny.ap50}/{tiny.ap75}, {tiny.parameters_m}M, {tiny.gflops}G"
    assert figures in points["readme_note"]
    assert tiny.ap_small is tiny.ap_medium is tiny.ap_large is None
    for line in ULTRALYTICS[:5]:
        point = printed[f"YOLOv8-{line.size.upper()}"]
        ours_8 = (line.published.box_ap, line.published.parameters_m, line.published.gflops)
        assert ours_8 == (point["AP"], point["params_M"], point["flops_G"])


def test_parameters_are_the_references_counts(shared: Path) -> None:
    facts = shared / "facts"
    official = read(facts / "yolov9/models.json")
    mmyolo = read(facts / "mmyolo/models.json")
    ultralytics = read(facts / "more_formats/ultra_models.json")
    expected = {f"yolov8-{size}": mmyolo[size]["params"] for size in "nsmlx"}
    for size in "tsmce":
        for family in ("gelan", "yolov9"):
            expected[f"{family}-{size}"] = official[f"{family}-{size}"]["params_train_trainable"]
        expected[f"ultralytics-yolov9{size}"] = ultralytics[f"yolov9{size}"]["params_trainable"]
    ours = {name: count for name, count in PARAMETERS.items() if not name.endswith("-80")}
    assert ours == expected
    assert PARAMETERS.keys() == SPECS.keys()
    for size in "nsmlx":
        assert PARAMETERS[f"yolov8-{size}"] == ultralytics[f"yolov8{size}"]["params_trainable"]


def test_rows_name_their_spec_recipe_protocol_and_licence() -> None:
    assert {line.id: line.spec.name for line in OFFICIAL} == {
        "yolov9-t": "yolov9-t-80",
        **{name: name for name in ("yolov9-s", "yolov9-m", "yolov9-c", "yolov9-e", "gelan-c", "gelan-e")},
    }
    for line in MMYOLO:
        assert line.spec is SPECS[f"yolov8-{line.size}"]
        assert line.recipe is RECIPES[line.id]
        assert (line.protocol.name, line.licence) == ("mmyolo", "GPL-3.0")
    for line in OFFICIAL:
        assert line.recipe is RECIPES[line.family]
        assert (line.protocol.name, line.licence) == ("yolov9", "GPL-3.0")
    for line in ULTRALYTICS:
        name = line.id if line.family == "yolov9" else f"yolov8-{line.size}"
        assert line.spec is SPECS[name]
        assert (line.recipe, line.mask_refine, line.syncbn, line.amp) == (None, None, None, None)
        assert (line.protocol.name, line.licence) == ("ultralytics", "AGPL-3.0")


def changes(base: Recipe, other: Recipe) -> dict[str, object]:
    before = base.numbers()
    return {name: value for name, value in other.numbers().items() if value != before[name]}


def test_yolov8_recipes_differ_only_where_the_configurations_do() -> None:
    wide = {"augmentation.scale_range": (0.1, 1.9)}
    plain = {
        "n": {},
        "s": {},
        "m": wide | {"augmentation.mixup_prob": 0.1},
        "l": wide | {"augmentation.mixup_prob": 0.15},
    }
    plain["x"] = plain["l"]
    pasted = {
        "n": {},
        "s": {},
        "m": {"augmentation.copy_paste": 0.1},
        "l": {"augmentation.copy_paste": 0.3},
        "x": {"augmentation.copy_paste": 0.3},
    }
    refined = {
        "augmentation.mask_refine": True,
        "augmentation.min_area_ratio": 0.01,
        "augmentation.min_area_ratio_of_boxes": 0.01,
    }
    refined |= {"augmentation.closing_mask_refine": True, "augmentation.closing_min_area_ratio": 0.01}
    for size in "nsmlx":
        recipe = RECIPES[f"yolov8-{size}"]
        assert changes(RECIPES["yolov8-n"], recipe) == plain[size]
        assert changes(recipe, RECIPES[f"yolov8-{size}-mask-refine"]) == refined | pasted[size]


def test_yolov9_and_gelan_recipes() -> None:
    assert changes(RECIPES["yolov8-x-mask-refine"], RECIPES["yolov9"]) == {
        "optimizer.warmup_minimum_iterations": 100,
        "optimizer.schedule_lag_epochs": 0,
        "ema.first_update_copies": False,
        "run.head_initialisation": "default",
        "run.validation_interval": 1,
        "augmentation.close_mosaic": 15,
        "augmentation.closing_mask_refine": False,
        "augmentation.closing_min_area_ratio": 0.1,
        "augmentation.closing_pad_bgr": (114, 114, 114),
        "augmentation.closing_shrinking": "linear",
        "augmentation.mosaic_shuffled": True,
        "augmentation.min_area_ratio_of_boxes": 0.1,
    }
    assert changes(RECIPES["yolov9"], RECIPES["gelan"]) == {"run.gpus": 4, "run.images_per_gpu": 32}
    assert list(RECIPES) == [
        *(f"yolov8-{size}" for size in "nsmlx"),
        *(f"yolov8-{size}-mask-refine" for size in "nsmlx"),
        *("yolov9", "gelan", "small", "demo"),
    ]


def test_what_all_published_recipes_share() -> None:
    for recipe in (recipe for name, recipe in RECIPES.items() if name not in ("small", "demo")):
        assert (
            recipe.run.epochs,
            recipe.run.gpus * recipe.run.images_per_gpu,
            recipe.augmentation.image_size,
        ) == (500, 128, 640)
        assert (recipe.run.syncbn, recipe.run.amp, recipe.optimizer.nesterov, recipe.optimizer.schedule) == (
            True,
            True,
            True,
            "linear",
        )
        assert recipe.optimizer.weight_decay == 0.0005 * 128 / 64
        assert (
            recipe.loss.box_gain,
            recipe.loss.class_gain,
            recipe.loss.dfl_gain,
            recipe.loss.aux_weight,
        ) == (
            7.5,
            0.5,
            1.5,
            0.25,
        )
        assert (
            recipe.augmentation.mosaic_prob,
            recipe.augmentation.translate,
            recipe.augmentation.hflip_prob,
        ) == (1.0, 0.1, 0.5)
        assert recipe.augmentation.hsv_gains == (0.015, 0.7, 0.4)
    assert (
        RECIPES["yolov8-n"].augmentation.close_mosaic,
        RECIPES["yolov8-n"].augmentation.closing_pad_bgr,
    ) == (10, (114, 0, 0))


def rate(recipe: Recipe, epoch: int) -> float:
    """Learning rate after the warm-up, from the recipe's own numbers."""
    share = 1 - (epoch - recipe.optimizer.schedule_lag_epochs) / recipe.run.epochs
    last = recipe.optimizer.final_learning_rate_factor
    return recipe.optimizer.learning_rate * (share * (1 - last) + last)


def decay(recipe: Recipe, update: int) -> float:
    return recipe.ema.decay * (1 - math.exp(-update / recipe.ema.tau))


def test_mmyolo_numbers_give_its_recorded_schedule(shared: Path) -> None:
    golden = read(shared / "facts/mmyolo/goldens/schedule_and_ckpt.json")
    recipe = RECIPES["yolov8-n"]
    group = golden["groups_world8"][0]
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (
        group["momentum"],
        group["weight_decay"],
    )
    points = golden["schedule_8x16_925it"]
    warmup = max(round(recipe.optimizer.warmup_epochs * 925), recipe.optimizer.warmup_minimum_iterations)
    assert points[0]["lr"][2] == recipe.optimizer.warmup_bias_learning_rate
    assert points[0]["momentum"][0] == recipe.optimizer.warmup_momentum
    late = [point for point in points if point["iter"] >= warmup and point["epoch"] > 3]
    assert len(late) > 8
    for point in late:
        assert point["lr"][0] == pytest.approx(rate(recipe, point["epoch"]), rel=1e-9)
    for point in golden["ema_momentum"]:
        assert 1 - point["momentum"] == pytest.approx(decay(recipe, point["step"] + 1), rel=1e-6)


def test_yolov9_numbers_give_its_recorded_schedule(shared: Path) -> None:
    golden = read(shared / "facts/yolov9/goldens/schedule.json")
    recipe = RECIPES["yolov9"]
    for epoch, factor in golden["linear"].items():
        assert rate(recipe, int(epoch)) == pytest.approx(0.01 * factor, rel=1e-9)
    for update, expected in golden["ema_decay"].items():
        assert decay(recipe, int(update)) == pytest.approx(expected, rel=1e-9)
    warmup = golden["warmup_bs128_nb925"]
    assert (warmup["nw"], warmup["weight_decay"]) == (
        recipe.optimizer.warmup_epochs * 925,
        recipe.optimizer.weight_decay,
    )
    start = warmup["points"]["0"]
    assert (start["lr_bias"], start["momentum"]) == (
        recipe.optimizer.warmup_bias_learning_rate,
        recipe.optimizer.warmup_momentum,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("yolov9", "c"), "yolov9-c"),
        (("gelan", "e"), "gelan-e"),
        (("yolov8", "n"), "yolov8-n"),
        (("yolov8", "n", True), "yolov8-n-mask-refine"),
        (("yolov8", "x", False, "ultralytics"), "ultralytics-yolov8x"),
        (("yolov9", "t", False, "ultralytics"), "ultralytics-yolov9t"),
        (("yolov9", "t", False, "official"), "yolov9-t"),
    ],
)
def test_find_row(arguments: tuple[Any, ...], expected: str) -> None:
    assert find_row(*arguments) is ROWS[expected]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("yolo9", "c"), "there is no family 'yolo9'; did you mean 'yolov9'?"),
        (("yolov8", "q"), "there is no yolov8 of size 'q'; choose one of n, s, m, l, x"),
        (("yolov9", "n"), "there is no yolov9 of size 'n'; choose one of t, s, m, c, e"),
        (("yolov9", "q", True), "there is no yolov9 of size 'q'; choose one of t, s, m, c, e"),
        (
            ("gelan", "t"),
            "gelan-t has no released file; choose gelan-c or gelan-e, or train it yourself",
        ),
        (
            ("yolov9", "c", True),
            "yolov9 has one recipe a size, which takes its boxes from masks already; leave mask_refine false",
        ),
        (
            ("yolov8", "n", True, "ultralytics"),
            "ultralytics publishes no yolov8 with mask refine; leave mask_refine false",
        ),
        (("gelan", "c", False, "mmyolo"), "mmyolo publishes no gelan; choose source 'official'"),
        (("yolov9", "c", False, "offical"), "there is no source 'offical'; did you mean 'official'?"),
    ],
)
def test_find_row_says_what_there_is_instead(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_row(*arguments)
    assert str(caught.value) == sentence


def test_row_by_id() -> None:
    assert row("gelan-e") is ROWS["gelan-e"]
    with pytest.raises(SettingsError, match="there is no row 'yolov9c'; did you mean 'yolov9-c'"):
        row("yolov9c")
    with pytest.raises(SettingsError, match="there is no row 'zebra'; choose one of yolov8-n, "):
        row("zebra")


def test_row_of_file() -> None:
    for line in ROWS.values():
        for asset in line.assets:
            for digest in asset.sha256:
                assert row_of_file(digest) == (line, asset)
                assert row_of_file(digest.upper()) == (line, asset)
    line = ROWS["yolov8-m-mask-refine"]
    assert row_of_file("f40abfcd" + "0" * 56) == (line, line.download)
    # Eight digits identify an mmyolo file only: elsewhere the whole hash counts.
    assert row_of_file("61e080e9" + "0" * 56) is None
    assert row_of_file("0" * 64) is None


def test_table_is_aligned_and_complete() -> None:
    lines = rows_table().splitlines()
    assert len(lines) == 1 + len(ROWS)
    starts = {
        line.index(word) for line, word in zip(lines[1:], (r.backbone for r in ROWS.values()), strict=True)
    }
    assert starts == {lines[0].index("backbone")}
    cells = {line.split()[0]: re.split(r" {2,}", line) for line in lines[1:]}
    assert cells["yolov8-n-mask-refine"][1:8] == [
        *("YOLOv8-n", "640", "yes", "37.4 (+0.2)", "39.9", "2.5", "mmyolo"),
    ]
    assert cells["ultralytics-yolov9t"][1:] == [
        *("YOLOv9-t", "640", "—", "38.3", "—", "—", "ultralytics", "yolov9t.pt"),
    ]


def test_text_states_every_field() -> None:
    text = row_text(ROWS["yolov9-c"])
    for line in (
        "  box_ap: 53.0",
        "  memory_gb: —",
        "  name: yolov9-c.pt",
        "  augmentation.close_mosaic: 15",
        "  augmentation.mask_refine: yes",
        "  stem: 64",
    ):
        assert line in text.splitlines()
    assert text.count("\nasset\n") == 2
    unknown = row_text(ROWS["ultralytics-yolov8m"]).splitlines()
    assert unknown[unknown.index("recipe") + 1] == "  —"
    published = unknown[unknown.index("published") : unknown.index("asset")]
    assert "  box_ap: 50.2" in published


def test_json_is_complete() -> None:
    data = json.loads(rows_json(ROWS.values()))
    assert [entry["id"] for entry in data] == list(ROWS)
    assert set(data[0]) == {field.name for field in fields(Row)}
    assert data[0]["recipe"]["augmentation"]["scale_range"] == [0.5, 1.5]
    assert data[0]["spec"]["stages"][0]["block"]["kind"] == "c2f"
    assert data[-1]["recipe"] is None
    entry = json.loads(rows_json([ROWS["yolov9-t"]]))[0]
    assert entry["assets"][0]["bytes"] == [4632858]


def test_a_row_of_ones_own_needs_no_place_in_the_table() -> None:
    published = replace(ROWS["yolov9-c"].published, box_ap=None)
    own = replace(ROWS["yolov9-c"], id="mine", published=published)
    assert (own.box_ap_text, own.box_ap_gain) == ("—", None)

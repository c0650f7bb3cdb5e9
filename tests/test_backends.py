"""Backends: the plain one's detections from each, the choice by measurement, what is kept and stated."""

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolov9bench.config import EvaluateConfig
from yolov9bench.data.coco import read_coco
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation import evaluate, precision_check, run_network
from yolov9bench.evaluation.precision_check import apply_checked
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.nn import Detector, build
from yolov9bench.ops import kept_memory as memory
from yolov9bench.ops.kept_memory import kept_memory
from yolov9bench.ops.ranks import Ranks
from yolov9bench.predict import choose_backend as choosing
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.choose_backend import (
    Rounded,
    Tf32,
    apply_backend,
    choose_backend,
    describe_case,
    fastest,
)
from yolov9bench.predict.detect import detect_batch
from yolov9bench.predict.postprocess import Detections
from yolov9bench.predict.predictions import Predictions, predictions_from_rows
from yolov9bench.records import Record
from yolov9bench.records.comparability import obstacles
from yolov9bench.records.contents import PrecisionCheck
from yolov9bench.weights import load
from yolov9bench.zoo.backends import BACKENDS, EXACT, PLAIN, REDUCED, SIXTEEN_BITS
from yolov9bench.zoo.protocols import PROTOCOLS
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))


@pytest.fixture
def cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of choices, in a folder that is not there yet."""
    monkeypatch.setenv("YOLOV9BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backends.json"


def by_rank(predictions: Predictions) -> list[tuple[int, int, float, list[float]]]:
    """Image, class, score and box, by class and from left to right: rounding could swap close scores."""
    columns = zip(
        predictions.image_ids.tolist(),
        predictions.category_ids.tolist(),
        predictions.scores.tolist(),
        predictions.boxes_xyxy.tolist(),
        strict=True,
    )
    return sorted(columns, key=lambda each: (each[0], each[1], [round(side, 1) for side in each[3]]))


def require_close(found: Predictions, plain: Predictions) -> None:
    """The same detections within .01 px and 1e-4."""
    assert len(found) == len(plain) > 20
    for one, other in zip(by_rank(found), by_rank(plain), strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], abs=1e-4)
        assert one[3] == pytest.approx(other[3], abs=0.01)


def evaluated(weights: Path, folder: Path, split: str, backend: str, **given: Any) -> evaluate.Evaluation:
    settings = EvaluationSettings(backend=backend, **given)
    return evaluate.evaluate_loaded(load(weights), read_coco(folder, split, 6), settings)


@pytest.mark.parametrize("backend", [name for name in EXACT if name != "plain"])
def test_every_backend_detects_what_the_plain_one_does(
    backend: str, painted: Path, tiny_weights: Path
) -> None:
    """On rectangles, in batches of four and of two; what ran is in the record."""
    plain, found = (
        evaluated(tiny_weights, painted, "val", each, image_size=64, batch_size=4)
        for each in ("plain", backend)
    )
    require_close(found.predictions, plain.predictions)
    assert found.record.values["AP"] == pytest.approx(plain.record.values["AP"], abs=1e-5)
    assert found.record.settings["backend"]["name"] == backend
    assert found.record.settings["protocol"] == plain.record.settings["protocol"]


@pytest.mark.slow(12)
@pytest.mark.parametrize("protocol", ["ultralytics-square", "mmyolo+tta"])
def test_real_weights_on_real_images(protocol: str, shared: Path) -> None:
    weights = shared / "weights/yolov8n.pt"
    given: dict[str, Any] = {"tta": True} if protocol == "mmyolo+tta" else {"protocol": protocol}
    plain, found = (
        evaluate.evaluate_loaded(
            load(weights),
            read_coco(shared / "coco", limit=1 if given.get("tta") else 3),
            EvaluationSettings(backend=each, **given),
        )
        for each in ("plain", "channels-last-2")
    )
    require_close(found.predictions, plain.predictions)
    assert found.record.values["AP"] == pytest.approx(plain.record.values["AP"], abs=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.accuracy
def test_compiled_weights_on_real_images(shared: Path) -> None:
    """Batches of two shapes, three images and one: the compiled code ran for both."""
    compiled = torch._dynamo.utils.counters
    compiled.clear()
    plain, found = (
        evaluate.evaluate_loaded(
            load(shared / "weights/yolov8n.pt"),
            read_coco(shared / "coco", limit=4),
            EvaluationSettings(backend=each, protocol="ultralytics-square", batch_size=3, image_size=320),
        )
        for each in ("plain", "compiled")
    )
    assert compiled["stats"]["unique_graphs"] == 2 and compiled["inductor"]
    require_close(found.predictions, plain.predictions)
    assert found.record.values["AP"] == pytest.approx(plain.record.values["AP"], abs=1e-5)
    assert found.record.settings["backend"]["name"] == "compiled"


def test_a_compiled_network_is_for_one_shape_and_a_machine_that_can_compile(
    painted: Path, tiny_weights: Path, cache_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"dataset": str(painted), "split": "val", "backend": "compiled", "image_size": 64}
    with pytest.raises(SettingsError, match="for every shape of protocol ultralytics: take a square one"):
        evaluate.evaluate(tiny_weights, protocol="ultralytics", device="cpu", **given)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SettingsError, match="no-such-compiler is not here"):
        evaluate.evaluate(tiny_weights, protocol="ultralytics-square", device="cpu", **given)
    cache_file.parent.mkdir()
    detector = build(SMALL, 2).deployed()
    cache_file.write_text(json.dumps({describe_case(detector, 64): "compiled"}))
    assert choose_backend(detector, "auto", 64, "cpu").name in EXACT


@pytest.mark.parametrize("backend", list(SIXTEEN_BITS))
def test_16_bits_are_checked_and_stated(backend: str, painted: Path, tiny_weights: Path) -> None:
    """The network alone is rounded: boxes and scores are near those of float32, and not equal."""
    given: dict[str, Any] = {"image_size": 64, "batch_size": 4}
    plain, found = (evaluated(tiny_weights, painted, "val", each, **given) for each in ("plain", backend))
    assert found.record.settings["dtype"] == backend
    check = found.record.settings["backend"]["check"]
    assert check == {
        "images": 6,
        "AP": found.record.values["AP"],
        "AP_float32": plain.record.values["AP"],
    }
    assert plain.record.settings["backend"]["check"] is None
    assert found.predictions.scores.tolist() != plain.predictions.scores.tolist()
    best = [by_rank(each.select(each.scores > 0.5)) for each in (plain.predictions, found.predictions)]
    again = [any(are_near(one, other) for other in best[1]) for one in best[0]]
    assert len(again) > 50 and sum(again) > 0.6 * len(again)  # of an untrained network, close to one another


def are_near(one: tuple[int, int, float, list[float]], other: tuple[int, int, float, list[float]]) -> bool:
    """Of one image and class, within .02 of the score and a pixel of each side."""
    sides = zip(one[3], other[3], strict=True)
    is_near = abs(one[2] - other[2]) < 0.02 and all(abs(here - there) < 1 for here, there in sides)
    return one[:2] == other[:2] and is_near


def test_a_rounded_network_is_the_network_of_rounded_weights_and_inputs() -> None:
    """Beside the same network made of float64 weights that were rounded by hand: to bfloat16's eight bits."""
    detector = build(SMALL, 2).deployed()
    images = torch.rand(2, 3, 64, 64)
    rounded = copy.deepcopy(detector).double()
    for weights in rounded.parameters():
        weights.data = weights.data.bfloat16().double()
    with torch.inference_mode():
        expected = rounded(images.bfloat16().double()).main
        found = apply_backend(detector, REDUCED["bfloat16"])(images).main
    for one, other in zip(found, expected, strict=True):
        for maps, own in zip(one, other, strict=True):
            assert maps.dtype == torch.bfloat16
            assert float((maps.double() - own).abs().max()) < 0.05 * float(own.abs().max())


@pytest.mark.parametrize(("right", "is_refused"), [(0, True), (5, True), (6, False)])
def test_16_bits_that_move_ap_are_refused_before_the_run(
    right: int, is_refused: bool, painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 finds all six objects, and 16 bits so many of them."""
    dataset = read_coco(painted, "val")
    objects = [entry for entry in dataset.annotations if not entry["iscrowd"]]
    assert len(objects) == 6

    def detect(network: nn.Module, batches: Batches) -> Predictions:
        kept = objects if isinstance(network, Detector) else objects[:right]
        return predictions_from_rows(entry | {"score": 0.9} for entry in kept)

    batches = Batches(dataset, PROTOCOLS["ultralytics-square"].at_image_size(64))
    detector = build(SMALL, 2).deployed()
    if is_refused:
        with pytest.raises(SettingsError, match=r"on 6 images AP is 0\..*, and 1\.00000 by float32"):
            apply_checked(detector, REDUCED["bfloat16"], batches, detect)
        return
    network, check = apply_checked(detector, REDUCED["bfloat16"], batches, detect)
    assert (check, isinstance(network, Rounded)) == (PrecisionCheck(6, 1.0, 1.0), True)


def test_16_bits_are_looked_at_on_images_with_objects(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_coco(painted, "val")
    objects = {entry["image_id"] for entry in dataset.annotations if not entry["iscrowd"]}
    monkeypatch.setattr(precision_check, "IMAGES", 2)
    chosen = precision_check.choose_images(dataset)
    assert [image.id for image in chosen.images] == sorted(objects)[:2]
    assert {entry["image_id"] for entry in chosen.annotations} <= objects


def test_16_bits_are_no_row_of_the_table(painted: Path, tiny_weights: Path) -> None:
    record = replace(
        evaluated(tiny_weights, painted, "val", "bfloat16", image_size=64).record, row="yolov9-c"
    )
    assert "computed in bfloat16" in obstacles(record)
    plain = replace(record, settings=record.settings | {"dtype": "float32"})
    assert not [each for each in obstacles(plain) if "computed" in each]


def tf32_switches() -> list[str]:
    cudnn: Any = torch.backends.cudnn
    return [cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision]


def test_tf32_is_of_the_network_alone(
    painted: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is here that would round: the switches are seen within the network and after it."""
    given: dict[str, Any] = {"image_size": 64, "batch_size": 4, "device": "cpu"}
    with pytest.raises(SettingsError, match="backend tf32 is for CUDA devices, not cpu: give another"):
        evaluated(tiny_weights, painted, "val", "tf32", **given)
    within, around = [], []
    whole, detect = Detector.forward, detect_batch

    def seen(detector: Detector, images: torch.Tensor) -> Any:
        within.append(tf32_switches())
        return whole(detector, images)

    def batch(*arguments: Any) -> Any:
        found = detect(*arguments)
        around.append(tf32_switches())
        return found

    monkeypatch.setattr(evaluate, "require_possible", lambda *_: None)
    monkeypatch.setattr(Detector, "forward", seen)
    monkeypatch.setattr(run_network, "detect_batch", batch)
    before = tf32_switches()
    record = evaluated(tiny_weights, painted, "val", "tf32", **given).record
    plain, rounded = ["ieee"] * 2, ["tf32"] * 2
    # Two batches of the check by float32, as many by TF32, and then all.
    assert within == [plain] * 2 + [rounded] * 4 and around == [plain] * 6
    assert tf32_switches() == before
    assert record.settings["dtype"] == "tf32" and record.settings["backend"]["check"]["images"] == 6
    assert "computed in tf32" in obstacles(replace(record, row="yolov9-c"))
    network = apply_backend(build(SMALL, 2).deployed(), REDUCED["tf32"])
    assert isinstance(network, Tf32) and next(network.parameters()).dtype == torch.float32


def test_16_bits_are_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_network, "current_ranks", lambda: Ranks(0, 2))
    for given, said in (
        ({"self_check": True}, "self_check is for"),
        ({"backend": "float16"}, "backend float16"),
    ):
        with pytest.raises(SettingsError, match=f"{said}.*one process"):
            run_network.require_one_process(EvaluationSettings(**given))
    run_network.require_one_process(EvaluationSettings(backend="plain"))


@pytest.mark.parametrize("chunk", [None, 1, 2, 4])
def test_the_network_gets_so_many_images_at_a_time(
    chunk: int | None, painted: Path, tiny_weights: Path
) -> None:
    """All padded as their batch is: a smaller chunk must not give another shape."""
    checkpoint, seen = load(tiny_weights), []
    detector = checkpoint.detector.deployed()
    detector.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    batches = Batches(read_coco(painted, "val"), PROTOCOLS["ultralytics-square"].at_image_size(64), 4)
    backend = next(each for each in BACKENDS.values() if each.chunk == chunk)
    run_network.run_inference(detector, batches, (1, 2), "cpu", backend)
    expected = {None: [4, 2], 1: [1] * 6, 2: [2, 2, 2], 4: [4, 2]}[chunk]
    assert seen == [(images, 3, 64, 64) for images in expected]


def test_the_layout_is_that_of_the_maps() -> None:
    """Of every convolution's output, though the images come as they always do."""
    detector = apply_backend(build(SMALL, 2).deployed(), BACKENDS["channels-last-1"])
    layouts = set()

    def note(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        layouts.add(output.is_contiguous(memory_format=torch.channels_last))

    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.inference_mode():
        detector(torch.rand(1, 3, 64, 64))
    assert layouts == {True}


def test_a_choice_is_measured_once(
    cache_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For each network, image size and number of threads; it is said, and kept."""
    measured: list[int] = []
    detector = build(SMALL, 2).deployed()

    def measure(given: Detector, image_size: int) -> Any:
        measured.append(image_size)
        return BACKENDS["contiguous-4"]

    monkeypatch.setattr(choosing, "fastest", measure)
    with caplog.at_level(logging.INFO, "yolov9bench"):
        chosen = [choose_backend(detector, "auto", size, "cpu").name for size in (64, 64, 96, 64)]
    assert chosen == ["contiguous-4"] * 4 and measured == [64, 96]
    assert len(caplog.messages) == 2 and "small computes fastest by backend contiguous-4" in caplog.text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    choose_backend(detector, "auto", 64, "cpu")
    assert measured == [64, 96, 64]
    kept = json.loads(cache_file.read_text())
    assert len(kept) == 3 and set(kept.values()) == {"contiguous-4"}
    assert sum("77 threads" in key for key in kept) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "plain-9"}', '{"a": 3}'])
def test_a_damaged_file_of_choices_is_said_and_replaced(
    content: str, cache_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text(content)
    name = choose_backend(build(SMALL, 2).deployed(), "auto", 32, "cpu").name
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
    assert str(cache_file) in caplog.text
    assert list(json.loads(cache_file.read_text()).values()) == [name]


def test_a_choice_that_cannot_be_kept_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("YOLOV9BENCH_CACHE", str(tmp_path / "cache"))
    choose_backend(build(SMALL, 2).deployed(), "auto", 32, "cpu")
    assert "is not kept" in caplog.text


def test_without_the_variable_choices_lie_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("YOLOV9BENCH_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert choosing.cache_folder() == tmp_path / ".cache/yolov9bench"


Seconds = Callable[[bool, int], float]  # channels last, images at a time


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda last, chunk: 1.0, "channels-last-4"),
        (lambda last, chunk: 1.0 if last else 0.9, "contiguous-4"),
        (lambda last, chunk: 1.0 if last else 0.97, "channels-last-4"),
        (lambda last, chunk: 1.0 + 0.1 * chunk, "channels-last-1"),
        (lambda last, chunk: 1.0 / chunk, "channels-last-8"),
        (lambda last, chunk: {1: 1.0, 4: 0.8, 8: 0.79}[chunk], "channels-last-4"),
    ],
)
def test_the_fastest_is_chosen(seconds: Seconds, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones by the order of preference: what is not clearly faster does not replace what is."""
    detector = build(SMALL, 2).deployed()

    def measure(given: Detector, chunk: int, image_size: int) -> float:
        weight = next(module.weight for module in given.modules() if isinstance(module, nn.Conv2d))
        return seconds(weight.is_contiguous(memory_format=torch.channels_last), chunk)

    monkeypatch.setattr(choosing, "seconds_an_image", measure)
    assert fastest(detector, 64).name == expected
    stem = next(module.weight for module in detector.modules() if isinstance(module, nn.Conv2d))
    assert stem.is_contiguous()


def test_measuring_takes_few_images_and_no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a batch of eight beyond the usual ones; torch's generator is left alone."""
    detector = build(SMALL, 2).deployed()
    seen: list[int] = []
    forward = Detector.forward

    def count(self: Detector, images: torch.Tensor) -> Any:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Detector, "forward", count)
    before = torch.random.get_rng_state()
    fastest(detector, 32)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sum(seen) in (18, 42)


def test_16_bits_are_never_taken_from_the_file_of_choices(
    cache_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = build(SMALL, 2).deployed()
    cache_file.parent.mkdir()
    cache_file.write_text(json.dumps({describe_case(detector, 64): "bfloat16"}))
    assert choose_backend(detector, "auto", 64, "cpu").name in EXACT
    assert "does not hold names of backends" in caplog.text


def test_a_gpu_computes_plainly(cache_file: Path) -> None:
    assert choose_backend(build(SMALL, 2).deployed(), "auto", 64, "cuda:1") is PLAIN
    assert not cache_file.exists()


def test_an_unknown_backend_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SettingsError, match="did you mean 'channels-last-"):
        EvaluateConfig("missing.pt", dataset=Path("set"), backend="channels-last-3")
    with pytest.raises(SettingsError, match="did you mean 'channels-last-"):
        evaluate.evaluate("missing.pt", "set", backend="channels-last-3")
    with pytest.raises(SettingsError, match="leave backend out"):
        evaluate.evaluate(detector=lambda images: [], dataset="set", backend="plain")


def test_the_same_command_gives_the_same_bits(cache_file: Path, painted: Path, tiny_weights: Path) -> None:
    """The second run finds the choice of the first; a record repeats by the name that it states."""

    def run(backend: str) -> Record:
        return evaluated(tiny_weights, painted, "val", backend, image_size=64).record

    first, second = run("auto"), run("auto")
    third = run(first.settings["backend"]["name"])
    assert cache_file.exists()
    assert first.values == second.values == third.values
    assert first.settings == second.settings == third.settings


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(memory.find_glibc() is None, reason="no glibc")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    """Beside the system's own count: 256 MB stay in memory after they are freed, but not after the block."""
    size, limit = 256 * 2**20, 200 * 2**20
    with kept_memory():
        pass  # what other tests of this process left free is given back at the end of it
    before = resident()
    torch.ones(size, dtype=torch.uint8)
    usual = resident() - before
    with kept_memory() as keeps:
        torch.ones(size, dtype=torch.uint8)
        kept = resident() - before
    after = resident() - before
    torch.ones(size, dtype=torch.uint8)
    assert keeps
    assert usual < limit < kept and after < limit and resident() - before < limit


@pytest.mark.skipif(memory.find_glibc() is None, reason="no glibc")
def test_pages_between_what_stays_are_given_back() -> None:
    """256 MB in pieces of 1 MB, of which every eighth stays: the rest leaves memory at once."""
    size, limit = 2**20, 100 * 2**20
    with kept_memory():
        memory.give_back_free()
        before = resident()
        pieces = [torch.ones(size, dtype=torch.uint8) for _ in range(256)]
        stays = pieces[::8]
        del pieces
        kept = resident() - before
        memory.give_back_free()
        assert kept > 2 * limit and resident() - before < limit
        assert all(int(each.sum()) == size for each in stays)


def test_memory_is_given_back_every_few_batches(
    monkeypatch: pytest.MonkeyPatch, painted: Path, tiny_weights: Path
) -> None:
    """Six images, two at a time: after the second batch, and not after the third."""
    given: list[int] = []
    batches = Batches(read_coco(painted, "val"), PROTOCOLS["ultralytics-square"].at_image_size(64), 2)
    monkeypatch.setattr(run_network, "GIVE_BACK_EVERY", 2)
    monkeypatch.setattr(run_network, "give_back_free", lambda: given.append(batches.counts.images))
    run_network.run_inference(load(tiny_weights).detector.deployed(), batches, (1, 2), "cpu")
    assert given == [4]


@pytest.mark.skipif(memory.find_glibc() is None, reason="no glibc")
def test_memory_is_kept_to_the_end_of_the_outer_of_two_blocks() -> None:
    """As when a training validates: what the validation frees stays, for the epochs that follow."""
    size, limit = 256 * 2**20, 200 * 2**20
    with kept_memory():
        before = resident()
        with kept_memory() as keeps:
            torch.ones(size, dtype=torch.uint8)
        kept = resident() - before
        torch.ones(size, dtype=torch.uint8)
        kept_later = resident() - before
    assert keeps and limit < min(kept, kept_later)
    assert resident() - before < limit


@pytest.mark.parametrize("library", ["none", "refuses"])
def test_without_glibc_nothing_is_kept_and_the_record_says_so(
    library: str, monkeypatch: pytest.MonkeyPatch, painted: Path, tiny_weights: Path
) -> None:
    class Refusing:
        def mallopt(self, parameter: int, value: int) -> int:
            return 0

    monkeypatch.setattr(memory, "find_glibc", lambda: None if library == "none" else Refusing())
    record = evaluated(tiny_weights, painted, "val", "plain", image_size=64).record
    assert record.settings["backend"] == {"name": "plain", "keeps_memory": False, "check": None}


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr_names", {})
    assert memory.find_glibc() is None
    memory.give_back_free()


@pytest.mark.parametrize("counts", [(3, 0, 2), (0,), (0, 0), (4,)])
def test_detections_of_a_batch_are_those_of_each_image(counts: tuple[int, ...]) -> None:
    """Copied at once; beside each image's own copy, with none, some and all of them empty."""
    generator = torch.Generator().manual_seed(len(counts))
    detections = [
        Detections(
            torch.rand(count, 4, generator=generator),
            torch.rand(count, generator=generator),
            torch.randint(80, (count,), generator=generator),
        )
        for count in counts
    ]
    found = run_network.on_host(detections)
    assert len(found) == len(counts)
    for arrays, each in zip(found, detections, strict=True):
        for array, tensor in zip(arrays, each, strict=True):
            assert array.dtype == tensor.numpy().dtype and array.tolist() == tensor.tolist()

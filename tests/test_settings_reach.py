"""Every setting of an evaluation: changed, it reaches the lowest function that uses it, and the record."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation import coco_metrics, evaluate, intervals, run_network, truth
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.nn import Detector
from yolov9bench.predict import batches, detect, postprocess
from yolov9bench.records import Record, as_stored
from yolov9bench.weights import Checkpoint, load
from yolov9bench.zoo.protocols import PROTOCOLS, Protocol, View

PLAIN = replace(PROTOCOLS["yolov9"], name="plain", image_size=64, group_size=6)
TWO_VIEWS = replace(PLAIN, name="two views", views=(View(), View(flipped=True)))


@dataclass
class Trace:
    """What the lowest functions were given, or gave, in one evaluation."""

    record: Record | None = None
    resized: set[tuple[Any, ...]] = field(default_factory=set)  # image size, rounding, shrinking
    shapes: set[tuple[int, int]] = field(default_factory=set)
    stacked: list[int] = field(default_factory=list)
    suppressed: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # of suppression and the way back to original pixels
    kept: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    placed: list[Tensor] = field(default_factory=list)  # original pixels, before they are clipped
    flips: int = 0
    repaired: int = 0  # paddings of flipped views
    decoded: set[tuple[Any, ...]] = field(default_factory=set)  # dtype, threads, float32 of products
    categories: tuple[Any, ...] = ()
    judged: int = 0

    @property
    def counts(self) -> dict[str, int]:
        assert self.record is not None
        found: dict[str, int] = self.record.values["counts"]
        return found


def spied(patch: pytest.MonkeyPatch, module: Any, name: str, note: Callable[..., None]) -> None:
    """Let `note` see the result, then the arguments, of every call of a function."""
    whole = getattr(module, name)

    def call(*arguments: Any, **named: Any) -> Any:
        result = whole(*arguments, **named)
        note(result, *arguments)
        return result

    patch.setattr(module, name, call)


def watch(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    backend: Any = torch.backends.mkldnn  # mypy does not see all its attributes

    def decoded(_: Any, levels: Any, threshold: float) -> None:
        switch = backend.matmul.fp32_precision
        trace.decoded.add((levels[0].box_logits.dtype, torch.get_num_threads(), switch))

    spied(patch, batches, "resize_long_side", lambda _, pixels, *rest: trace.resized.add(rest))
    spied(patch, batches, "letterbox", lambda _, pixels, shape: trace.shapes.add(shape))
    spied(patch, batches, "stack_inputs", lambda _, parts: trace.stacked.append(len(parts)))
    spied(patch, postprocess, "suppress_boxes", lambda _, *given: trace.suppressed.append(given))
    spied(patch, detect, "decode_likely", decoded)
    spied(patch, detect, "nms", lambda found, *_: trace.order.append("nms"))
    spied(patch, detect, "nms", lambda found, *_: trace.kept.append(len(found.scores)))
    spied(patch, detect, "to_original", lambda *_: trace.order.append("back"))
    spied(patch, detect, "clipped", lambda _, boxes, size: trace.placed.append(boxes))
    spied(patch, detect, "merge_views", lambda found, *_: trace.merged.append(len(found.scores)))
    spied(patch, detect, "mirrored", lambda *_: setattr(trace, "flips", trace.flips + 1))
    spied(patch, detect, "mirrored_letterbox", lambda *_: setattr(trace, "repaired", trace.repaired + 1))
    spied(patch, run_network, "predictions_of", lambda _, found, given: setattr(trace, "categories", given))
    spied(patch, coco_metrics, "_judged", lambda *_: setattr(trace, "judged", trace.judged + 1))


@pytest.fixture(scope="module")
def loaded(painted: Path, tiny_weights: Path) -> tuple[Checkpoint, CocoDataset]:
    return load(tiny_weights), read_coco(painted, "val")


@pytest.fixture(autouse=True)
def without_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take most of the time, and no setting is about it."""
    monkeypatch.setattr(intervals, "ap_interval", lambda *_: (0.0, 1.0))


Run = Callable[..., Trace]


@pytest.fixture
def run(loaded: tuple[Checkpoint, CocoDataset]) -> Run:
    """An evaluation under a protocol, watched."""

    def evaluated(protocol: Protocol, detector: Detector | None = None, **given: Any) -> Trace:
        checkpoint, dataset = loaded
        checkpoint = checkpoint if detector is None else replace(checkpoint, detector=detector)
        trace = Trace()
        with pytest.MonkeyPatch.context() as patch:
            watch(patch, trace)
            patch.setitem(PROTOCOLS, "yolov9", protocol)
            settings = EvaluationSettings("yolov9", **given)
            trace.record = evaluate.evaluate_loaded(checkpoint, dataset, settings).record
        return trace

    return evaluated


@pytest.fixture(scope="module")
def usual() -> dict[str, Trace]:
    """The evaluations before a change, by the name of their protocol; each is made once."""
    return {}


def apart(record: Record | None) -> dict[str, Any]:
    """What a record states, but for when it was made."""
    assert record is not None
    return {name: part for name, part in asdict(record).items() if name not in ("start", "seconds")}


def sizes(trace: Trace) -> list[int]:
    return [len(scores) for _, scores, _ in trace.suppressed]


def highest(trace: Trace) -> float:
    return max(float(boxes.max()) for boxes, _, _ in trace.suppressed)


def lowest(trace: Trace) -> float:
    return min(float(scores.min()) for _, scores, _ in trace.suppressed if len(scores))


def ious(trace: Trace) -> set[float]:
    return {iou for _, _, iou in trace.suppressed}


def same_boxes(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def other_places(usual: Trace, changed: Trace) -> bool:
    """The same boxes of the input lie elsewhere in the images."""
    given, now = ([boxes for boxes, _, _ in each.suppressed] for each in (usual, changed))
    return same_boxes(given, now) and not same_boxes(usual.placed, changed.placed)


# The new value of each field of PLAIN, or of TWO_VIEWS, and what must be so before and after.
Effect = Callable[[Trace, Trace], bool]
FIELDS: dict[str, tuple[Protocol, Any, Effect]] = {
    "name": (PLAIN, "other", lambda usual, now: True),  # the log's line: see the test
    "rounding": (
        PLAIN,
        "ceil",
        lambda usual, now: (
            (usual.resized, now.resized) == ({(64, "truncate", "area")}, {(64, "ceil", "area")})
        ),
    ),
    "shrinking": (PLAIN, "linear", lambda usual, now: now.resized == {(64, "truncate", "linear")}),
    # The six images are wide and tall, so their one group is a square: ceil(64 / 32 + 0.5) * 32 = 96.
    "rectangular": (PLAIN, False, lambda usual, now: (usual.shapes, now.shapes) == ({(96, 96)}, {(64, 64)})),
    "group_size": (PLAIN, 1, lambda usual, now: len(now.shapes) > 1 and sorted(now.stacked) == [1] * 6),
    "margin": (PLAIN, 1.5, lambda usual, now: now.shapes == {(128, 128)}),
    "stride": (PLAIN, 64, lambda usual, now: now.shapes == {(128, 128)}),
    "image_size": (PLAIN, 96, lambda usual, now: now.resized == {(96, "truncate", "area")}),
    "nms_coordinates": (
        PLAIN,
        "original",
        lambda usual, now: usual.order == ["nms", "back"] * 6 and now.order == ["back", "nms"] * 6,
    ),
    "scale_back": (PLAIN, "axes", other_places),
    "class_shift": (PLAIN, 1000.0, lambda usual, now: highest(usual) > 7680 > 2000 > highest(now) > 1000),
    "score_threshold": (PLAIN, 0.2, lambda usual, now: lowest(usual) < 0.2 < lowest(now)),
    "nms_iou": (PLAIN, 0.5, lambda usual, now: (ious(usual), ious(now)) == ({0.7}, {0.5})),
    # 9 + 36 + 144 cells of two classes, of which the best one alone is left.
    "multi_label": (PLAIN, False, lambda usual, now: max(sizes(usual)) == 378 and max(sizes(now)) == 189),
    "max_candidates": (
        PLAIN,
        50,
        lambda usual, now: set(sizes(now)) == {50} and usual.counts["candidates"] == now.counts["candidates"],
    ),
    "max_detections": (PLAIN, 7, lambda usual, now: min(usual.kept) > 7 and now.kept == [7] * 6),
    "views": (
        PLAIN,
        (View(), View(1.5), View(flipped=True)),
        lambda usual, now: (
            (usual.flips, now.flips) == (0, 6) and {size for size, *_ in now.resized} == {64, 96}
        ),
    ),
    "merge_iou": (TWO_VIEWS, 0.3, lambda usual, now: (ious(usual), ious(now)) == ({0.7, 0.65}, {0.7, 0.3})),
    "merge_max_detections": (
        TWO_VIEWS,
        5,
        lambda usual, now: min(usual.merged) > 5 and now.merged == [5] * 6,
    ),
    "mirror_padding": (TWO_VIEWS, True, lambda usual, now: (usual.repaired, now.repaired) == (0, 6)),
}


def test_every_field_of_a_protocol_has_a_case() -> None:
    assert FIELDS.keys() == {each.name for each in fields(Protocol)}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_the_protocol_reaches_what_runs_and_the_record(
    run: Run, usual: dict[str, Trace], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    protocol, value, effect = FIELDS[name]
    if protocol.name not in usual:
        usual[protocol.name] = run(protocol)
    before = usual[protocol.name]
    changed: dict[str, Any] = {name: value}
    with caplog.at_level("INFO"):
        now = run(replace(protocol, **changed))
    assert effect(before, now)
    assert f"under protocol {'other' if name == 'name' else protocol.name} on" in caplog.text
    assert now.record is not None and before.record is not None
    assert as_stored(now.record.settings["protocol"]) == as_stored(replace(protocol, **changed))
    assert apart(now.record) != apart(before.record)


SETTINGS: dict[str, tuple[dict[str, Any], Any, Effect]] = {
    "batch_size": ({"batch_size": 4}, 4, lambda usual, now: (usual.stacked, now.stacked) == ([6], [4, 2])),
    "judge": ({"judge": True}, True, lambda usual, now: (usual.judged, now.judged) == (0, 1)),
    "classes": (
        {"classes": {"red": "red"}},
        {"red": "red"},
        lambda usual, now: (usual.categories, now.categories) == ((1, 2), (1, None)),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_reaches_what_runs_and_the_record(run: Run, usual: dict[str, Trace], name: str) -> None:
    given, stated, effect = SETTINGS[name]
    before = usual[PLAIN.name] if PLAIN.name in usual else run(PLAIN)
    now = run(PLAIN, **given)
    assert effect(before, now)
    assert now.record is not None and before.record is not None
    assert now.record.settings[name] == stated != before.record.settings[name]


def test_images_are_left_out_where_the_record_says_so(tiny: Path, tiny_weights: Path) -> None:
    checkpoint, dataset = load(tiny_weights), read_coco(tiny, "val")
    strict, lenient = (
        EvaluationSettings("yolov9", image_size=64, skip_corrupt=each) for each in (False, True)
    )
    whole = [evaluate.evaluate_loaded(checkpoint, dataset, each).record for each in (strict, lenient)]
    assert [each.settings["skip_corrupt"] for each in whole] == [False, True]
    (tiny / "val/000003.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"000003\.png"):
        evaluate.evaluate_loaded(checkpoint, dataset, strict)
    found = evaluate.evaluate_loaded(checkpoint, dataset, lenient).record
    assert (found.inputs["images_skipped"], found.values["counts"]["images"]) == (["000003.png"], 5)


@pytest.fixture
def restored() -> Iterator[Any]:
    """torch's switch for products on the processor; it and the threads are put back."""
    backend: Any = torch.backends.mkldnn
    before, threads = backend.matmul.fp32_precision, torch.get_num_threads()
    yield backend.matmul
    backend.matmul.fp32_precision = before
    torch.set_num_threads(threads)


def test_threads_and_rounded_float32_are_those_of_the_network(run: Run, restored: Any) -> None:
    torch.set_num_threads(1)
    before = run(PLAIN)
    torch.set_num_threads(2)
    restored.fp32_precision = "bf16"
    now = run(PLAIN)
    assert {threads for _, threads, _ in before.decoded} == {1}
    assert now.decoded == {(torch.float32, 2, "bf16")} and "bf16" not in str(before.decoded)
    stated = [each.record.environment for each in (before, now) if each.record is not None]
    assert [each["threads"] for each in stated] == [1, 2]
    assert [each["float32"]["matmul"] for each in stated] == ["ieee", "bf16"]


def test_the_precision_is_that_of_the_weights(run: Run, loaded: tuple[Checkpoint, CocoDataset]) -> None:
    """A network in float64, which nothing but its own weights tells."""
    detector = load_double(loaded[0])
    now = run(PLAIN, detector)
    assert now.record is not None
    assert {dtype for dtype, *_ in now.decoded} == {torch.float64}
    assert now.record.settings["dtype"] == "float64"


def load_double(checkpoint: Checkpoint) -> Detector:
    detector = checkpoint.detector.deployed().double()
    detector.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return detector


def test_the_device_is_that_of_the_weights(
    loaded: tuple[Checkpoint, CocoDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended GPU that the network never came to; what detects is told the one that was asked for."""
    checkpoint, dataset = loaded
    told: list[str] = []

    def nothing(detector: Any, batch: Any, protocol: Any, device: str) -> list[postprocess.Detections]:
        told.append(device)
        empty = postprocess.Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        return [empty] * len(batch.images)

    monkeypatch.setattr(evaluate, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(Detector, "to", lambda self, device: self)
    monkeypatch.setattr(run_network, "detect_batch", nothing)
    record = evaluate.evaluate_loaded(checkpoint, dataset, EvaluationSettings("yolov9", device="cuda")).record
    assert set(told) == {"cuda"}
    assert record.environment["device"] == "cpu"


@pytest.mark.parametrize("protocol", [PLAIN, TWO_VIEWS], ids=lambda each: str(each.name))
def test_counts_are_those_of_suppression(run: Run, usual: dict[str, Trace], protocol: Protocol) -> None:
    """Candidates: all boxes that came to the suppression of a view; detections: what was left in the end."""
    trace = usual[protocol.name] if protocol.name in usual else run(protocol)
    by_view = [size for size, (*_, iou) in zip(sizes(trace), trace.suppressed, strict=True) if iou == 0.7]
    views = len(protocol.views)
    left = trace.kept if views == 1 else trace.merged
    assert len(by_view) == 6 * views
    assert trace.counts == {"images": 6, "candidates": sum(by_view), "detections": sum(left)}


def test_the_evaluators_own_word_is_in_the_record(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """hotcoco at COCO's parameters, and with fewer detections an image, of which it says so itself."""
    record = run(PLAIN).record
    assert record is not None
    assert record.settings["evaluator"] == {"provenance": "parity_verified", "reference_deviations": []}
    whole = truth.run_evaluator

    def with_fewer_detections(*given: Any) -> Any:
        evaluator = whole(*given)
        evaluator.params.max_dets = [1, 10, 50]
        return evaluator

    monkeypatch.setattr(coco_metrics, "run_evaluator", with_fewer_detections)
    record = run(PLAIN).record
    assert record is not None
    assert record.settings["evaluator"]["provenance"] == "extension"
    (sentence,) = record.settings["evaluator"]["reference_deviations"]
    assert "max_dets" in sentence

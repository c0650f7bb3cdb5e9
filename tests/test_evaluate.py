"""Evaluation end to end: against the references' detections and metrics, and on painted images."""

import errno
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import Compare, Comparisons

from yolov9bench import records
from yolov9bench.data.coco import CocoDataset, label_categories, read_coco
from yolov9bench.errors import BenchError, DatasetError, SettingsError
from yolov9bench.evaluation import evaluate, run_network
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import predictions_from_rows, result_rows
from yolov9bench.predict.result_files import read_predictions
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import PROTOCOLS

Row = dict[str, Any]
SIZE_METRICS = ("APs", "APm", "APl", "ARs", "ARm", "ARl")


def reference(shared: Path, protocol: str) -> tuple[dict[str, float], list[Row]]:
    """Metrics and detections with score > 0.01 that a reference gave on the shared images."""
    metrics, rows = read_reference(shared, protocol)
    return metrics, [row for row in rows if row["score"] > 0.01]


def read_reference(shared: Path, protocol: str) -> tuple[dict[str, float], list[Row]]:
    """Metrics and all detections of a reference."""
    listed = json.loads((shared / "coco/reference/reference_ap.json").read_text())["results"]
    found = next(entry for entry in listed if entry["protocol"] == protocol)
    return found["metrics"], json.loads((shared / "coco/reference" / found["file"]).read_text())


def reference_sample(shared: Path, protocol: str, dataset: CocoDataset) -> tuple[float, list[Row]]:
    """AP, by pycocotools too, of what a reference detected on some shared images; rows as `reference`."""
    images = {image.id for image in dataset.images}
    rows = [row for row in read_reference(shared, protocol)[1] if row["image_id"] in images]
    ap = coco_metrics(dataset.ground_truth(), predictions_from_rows(rows), judge=True)["AP"]
    return ap, [row for row in rows if row["score"] > 0.01]


def corners(row: Row) -> list[float]:
    x, y, width, height = row["bbox"]
    return [x, y, x + width, y + height]


def matched_share(ours: Sequence[Row], theirs: Sequence[Row]) -> float:
    """Share of their detections for which we have one of the class, within 0.5 px and 0.001 in score."""
    by_class: dict[tuple[int, int], list[Row]] = {}
    for row in ours:
        by_class.setdefault((row["image_id"], row["category_id"]), []).append(row)
    hits = sum(
        any(
            abs(row["score"] - wanted["score"]) <= 1e-3
            and max(abs(a - b) for a, b in zip(corners(row), corners(wanted), strict=True)) <= 0.5
            for row in by_class.get((wanted["image_id"], wanted["category_id"]), [])
        )
        for wanted in theirs
    )
    return hits / len(theirs)


def require_metrics(held: Comparisons, found: dict[str, float], wanted: dict[str, float]) -> None:
    """In points of 100. Rounding of detections alone moves AP by up to 0.014 and a figure by size by 0.06."""
    for quantity, unit, names, tolerance in (
        ("AP", "AP points", ["AP"], 0.02),
        ("AP50, AP75 and AR", "points", [name for name in wanted if name not in ("AP", *SIZE_METRICS)], 0.05),
        ("AP and AR by size", "points", [name for name in wanted if name in SIZE_METRICS], 0.1),
    ):
        ours, theirs = ([100 * metrics[name] for name in names] for metrics in (found, wanted))
        held.require_close(quantity, unit, ours, theirs, tolerance)


def require_matched(held: Comparisons, ours: Sequence[Row], theirs: Sequence[Row]) -> None:
    unmatched = 1 - matched_share(ours, theirs)
    held.require("detections without ours in 0.5 px and 0.001", "share", unmatched, 1e-3, len(theirs))


@pytest.mark.slow(12)
@pytest.mark.parametrize("protocol", ["ultralytics-square", "mmyolo"])
def test_real_weights_on_a_sample_as_the_references(shared: Path, protocol: str, tmp_path: Path) -> None:
    stored = tmp_path / "detections.json"
    weights, folder = shared / "weights/yolov8n.pt", shared / "coco"
    record = evaluate.evaluate(weights, folder, protocol, limit=9, judge=True, detections=stored)
    ap, theirs = reference_sample(shared, protocol, read_coco(folder, limit=9))
    assert len(theirs) > 150
    assert abs(record.values["AP"] - ap) <= 1e-3
    assert matched_share(json.loads(stored.read_text()), theirs) >= 0.999


@pytest.mark.accuracy
@pytest.mark.slow(25)
@pytest.mark.parametrize("protocol", ["ultralytics-square", "mmyolo"])
def test_real_weights_on_real_images_as_the_references(
    shared: Path, protocol: str, tmp_path: Path, parity: Compare
) -> None:
    held = parity("mmyolo" if protocol == "mmyolo" else "ultralytics", "AP")
    stored = tmp_path / "detections.json"
    record = evaluate.evaluate(
        shared / "weights/yolov8n.pt", shared / "coco", protocol, judge=True, detections=stored
    )
    metrics, theirs = reference(shared, protocol)
    require_metrics(held, record.values, metrics)
    require_matched(held, json.loads(stored.read_text()), theirs)
    assert record.row == "ultralytics-yolov8n"
    assert record.settings["protocol"] == json.loads(json.dumps(asdict(PROTOCOLS[protocol])))


def reference_shapes(dataset: CocoDataset, order: Sequence[int]) -> list[tuple[Any, tuple[int, int]]]:
    """The input shapes of the rectangular reference run, which grouped these images among 106 others.

    Its file lists the images in its own order; the five shapes change where images stop to match any other.
    """
    images = {image.id: image for image in dataset.images}
    ordered = [images[number] for number in order]
    ends = {27: (448, 672), 73: (512, 672), 78: (672, 672), 96: (672, 512), 100: (672, 448)}
    starts = [0, *list(ends)[:-1]]
    return [(ordered[start:end], shape) for start, (end, shape) in zip(starts, ends.items(), strict=True)]


@pytest.mark.accuracy
@pytest.mark.slow(35)
def test_rectangles_as_ultralytics_given_its_own_batches(shared: Path, parity: Compare) -> None:
    """Which images share a batch moves padding and so detections; with the reference's, ours are equal."""
    held = parity("ultralytics", "AP")
    checkpoint, dataset = load(shared / "weights/yolov8n.pt"), read_coco(shared / "coco")
    metrics, theirs = reference(shared, "ultralytics")
    batches = Batches(dataset, PROTOCOLS["ultralytics"])
    order = list(dict.fromkeys(row["image_id"] for row in theirs))
    batches.chunks = [(images, {640: shape}) for images, shape in reference_shapes(dataset, order)]
    categories = label_categories(dataset, checkpoint.names, 80)
    predictions = run_network.run_inference(checkpoint.detector.deployed(), batches, categories, "cpu")
    require_metrics(held, coco_metrics(dataset.ground_truth(), predictions), metrics)
    require_matched(held, list(result_rows(predictions)), theirs)


@pytest.mark.accuracy
@pytest.mark.slow(25)
def test_rectangles_of_these_images_alone(shared: Path, tmp_path: Path) -> None:
    """Grouping just the images at hand, those whose shape is the reference's have its detections."""
    stored = tmp_path / "detections.json"
    record = evaluate.evaluate(
        shared / "weights/yolov8n.pt", shared / "coco", "ultralytics", detections=stored
    )
    metrics, theirs = reference(shared, "ultralytics")
    assert abs(record.values["AP"] - metrics["AP"]) <= 5e-4
    dataset = read_coco(shared / "coco")
    order = list(dict.fromkeys(row["image_id"] for row in theirs))
    shape_of = {image.id: shape for images, shape in reference_shapes(dataset, order) for image in images}
    same = {
        image.id
        for images, shapes in Batches(dataset, PROTOCOLS["ultralytics"]).chunks
        for image in images
        if shape_of[image.id] == shapes[640]
    }
    assert len(same) > 70
    comparable = [row for row in theirs if row["image_id"] in same]
    assert matched_share(json.loads(stored.read_text()), comparable) >= 0.999


def test_one_class_detector_is_refused_on_coco(shared: Path) -> None:
    checkpoint = load(shared / "weights/yolov9t_one_class.pt")
    assert checkpoint.names == {0: "ball"}
    with pytest.raises(DatasetError, match=r"'ball'"):
        evaluate.evaluate(shared / "weights/yolov9t_one_class.pt", shared / "coco")


def test_detections_do_not_depend_on_batch_size(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    for size in (1, 5):
        evaluate.evaluate(
            tiny_weights,
            tiny,
            "yolov9",
            "val",
            batch_size=size,
            image_size=64,
            detections=tmp_path / f"{size}.json",
        )
    one, five = (json.loads((tmp_path / f"{size}.json").read_text()) for size in (1, 5))
    assert len(one) > 50
    assert matched_share(one, five) == matched_share(five, one) == 1.0


def test_record_is_what_ran(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    record = evaluate.evaluate(
        tiny_weights, tiny, "mmyolo", "val", limit=3, image_size=64, detections=tmp_path
    )
    assert record.settings["protocol"]["image_size"] == 64
    assert record.settings["protocol"]["name"] == "mmyolo"
    assert record.inputs["images"] == 3
    stored = tmp_path / record.values["detections"]["file"]
    again = coco_metrics(read_coco(tiny, "val", 3).ground_truth(), read_predictions(stored))
    assert {name: record.values[name] for name in again} == again
    assert records.read(records.write(record, tmp_path)) == record


def test_painted_objects_have_the_ap_of_their_detections(tiny: Path, tiny_weights: Path) -> None:
    """An untrained detector finds next to nothing: a score far from 0 here would be made up."""
    record = evaluate.evaluate(tiny_weights, tiny, "yolov9", "val", image_size=64)
    assert record.values["detections"]["count"] > 50
    assert 0 <= record.values["AP"] < 0.05


def test_missing_images_are_counted_and_named(tiny: Path, tiny_weights: Path) -> None:
    for name in ("000002.png", "000004.png"):
        (tiny / "val" / name).unlink()
    with pytest.raises(DatasetError, match=r"lacks 2 of 6 images, first 000002\.png"):
        evaluate.evaluate(tiny_weights, tiny, "yolov9", "val", image_size=64)


@pytest.mark.parametrize("harm", ["cut", "text"])
def test_corrupt_image_is_refused_or_counted(tiny: Path, tiny_weights: Path, harm: str) -> None:
    victim = tiny / "val" / "000003.png"
    victim.write_bytes(victim.read_bytes()[:60] if harm == "cut" else b"no image")
    with pytest.raises(DatasetError, match=r"000003\.png"):
        evaluate.evaluate(tiny_weights, tiny, "yolov9", "val", image_size=64)
    record = evaluate.evaluate(tiny_weights, tiny, "yolov9", "val", image_size=64, skip_corrupt=True)
    assert record.inputs["images_skipped"] == ["000003.png"]
    assert record.inputs["images"] == 5
    assert record.settings["skip_corrupt"] is True


def test_annotation_file_missing(tiny: Path, tiny_weights: Path) -> None:
    with pytest.raises(DatasetError, match=r"instances_test\.json.*instances_val\.json"):
        evaluate.evaluate(tiny_weights, tiny, "yolov9", "test")


class FullDisk(io.RawIOBase):
    """A file on a disk that is full after its first bytes."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.file.write(bytes(content)[:1])
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.mark.parametrize("name", ["out.json", "out.npz"])
def test_full_disk_is_a_sentence(
    name: str, tiny: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes a few bytes of the file, and no more."""
    opened = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        file = opened(path, mode, *rest, **named)
        return FullDisk(file) if "w" in mode and "out" in path.name else file

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(BenchError, match=rf"{name} cannot be written .*make space"):
        evaluate.evaluate(tiny_weights, tiny, "yolov9", "val", image_size=64, detections=tmp_path / name)
    assert list(tmp_path.glob("*out*")) == []


def test_auto_protocol_of_our_own_file_is_its_rows(tiny: Path, tiny_weights: Path) -> None:
    assert (
        evaluate.evaluate(tiny_weights, tiny, split="val", image_size=64).settings["protocol"]["name"]
        == "yolov9"
    )


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"'tpu'.*cpu, cuda, or auto"):
        evaluate.resolve_device("tpu")


def test_float32_is_not_rounded_to_tf32_and_the_switch_goes_back() -> None:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    with run_network.full_float32():
        assert cudnn.conv.fp32_precision == "ieee"
    assert cudnn.conv.fp32_precision == before


@pytest.mark.parametrize(("images", "remedy"), [(3, "give batch_size 1"), (1, "give a smaller image_size")])
def test_a_gpu_that_is_too_small_is_a_sentence(
    tiny: Path, tiny_weights: Path, images: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run_network, "detect_batch", full)
    many = "1 image" if images == 1 else f"{images} images"
    sentence = f"a batch of {many} of 64 px does not fit into the GPU's memory: {remedy}"
    with pytest.raises(SettingsError, match=sentence):
        evaluate.evaluate(tiny_weights, tiny, split="val", batch_size=images, image_size=64, device="cpu")


@pytest.mark.parametrize("device", ["meta", "meta:0"])
def test_a_device_on_which_nothing_was_compared_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match=f"device '{device}' is not supported"):
        evaluate.resolve_device(device)

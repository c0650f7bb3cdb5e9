"""Objects and polygons: recorded output of the reference, numbers worked out by hand, counted edges."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import Compare
from numpy.typing import NDArray

from yolov9bench.data import polygons
from yolov9bench.data.outlines import Polygon, extent_inside, extents_inside, filled, resampled
from yolov9bench.data.polygons import Objects, joined, objects_of
from yolov9bench.errors import DatasetError

LABELS = {10: 0, 20: 1}
TRIANGLE = [12.0, 11.0, 28.0, 12.0, 20.0, 29.5]
TRIANGLE_BOX = [12.0, 11.0, 28.0, 29.5]


def annotation(bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0, "category_id": 20, **more}


def objects(*annotations: dict[str, Any], mask_refine: bool = True) -> Objects:
    return objects_of(annotations, LABELS, 100, 80, mask_refine)


@pytest.fixture
def recorded(shared: Path) -> dict[str, Any]:
    path = shared / "facts/mmyolo/goldens/load_annotations.json"
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize("way", ["plain", "mask2bbox"])
def test_loading_agrees_with_the_reference(recorded: dict[str, Any], way: str, parity: Compare) -> None:
    held = parity("mmyolo", "augmentations")
    annotations = []
    for entry in recorded["instances"]:
        x1, y1, x2, y2 = entry["bbox"]
        masks = {"segmentation": entry["mask"]} if "mask" in entry else {}
        crowd = {"iscrowd": entry["ignore_flag"], "category_id": entry["bbox_label"]}
        annotations.append(annotation([x1, y1, x2 - x1, y2 - y1], **masks, **crowd))
    same = {label: label for label in range(6)}
    loaded = objects_of(annotations, same, 130, 100, mask_refine=way == "mask2bbox")
    assert loaded.labels.tolist() == recorded[way]["labels"]
    held.require_close("loaded boxes", "px", loaded.boxes, recorded[way]["boxes"], 1e-5)
    if way == "plain":
        assert loaded.polygons == (None,) * 5
    else:
        assert [polygon.ravel().tolist() for polygon in loaded.polygons if polygon is not None] == [
            polygon for (polygon,) in recorded[way]["merged_polygons"]
        ]


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (annotation([5, 5, 0.9, 20]), "narrow"),
        (annotation([5, 5, 20, 0.9]), "low"),
        (annotation([5, 5, 20, 20], area=0), "no area"),
        (annotation([100, 5, 20, 20]), "right of the image"),
        (annotation([5, -20, 20, 20]), "above the image"),
        (annotation([5, 5, 20, 20], iscrowd=1), "crowd"),
    ],
)
def test_useless_annotations_are_left_out(left_out: dict[str, Any], reason: str) -> None:
    kept = annotation([-4, 70, 30, 40], category_id=10)  # over the border, and not clipped
    found = objects(left_out, kept, mask_refine=False)
    assert found.boxes.tolist() == [[-4, 70, 26, 110]], reason
    assert found.labels.tolist() == [0]


def test_without_any_polygon_the_boxes_count() -> None:
    run_lengths = {"counts": [3, 5, 4], "size": [4, 3]}
    bare = [annotation([5, 6, 20, 21]), annotation([7, 6, 20, 21], segmentation=run_lengths)]
    found = objects(*bare, annotation([9, 6, 20, 21], segmentation=[[1, 2, 3, 4]]))
    assert found.boxes[:, 0].tolist() == [5, 7, 9]
    assert found.polygons == (None, None, None)
    beside = objects(*bare, annotation([9, 6, 20, 21], segmentation=[TRIANGLE], category_id=10))
    assert beside.boxes.tolist() == [TRIANGLE_BOX]
    assert beside.labels.tolist() == [0]


def test_nothing_annotated() -> None:
    found = objects()
    assert found.boxes.shape == (0, 4)
    assert found.labels.shape == (0,)
    assert found.polygons == ()


def ring(generator: np.random.Generator, corner: tuple[float, float]) -> Polygon:
    """A star-shaped polygon, its vertices in no particular place."""
    angles = np.sort(generator.uniform(0, 2 * np.pi, int(generator.integers(3, 9))))
    radii = generator.uniform(3, 9, len(angles))
    return np.stack([corner[0] + radii * np.cos(angles), corner[1] + radii * np.sin(angles)], 1).astype(
        np.float32
    )


def edges(polygon: Polygon) -> Counter[frozenset[tuple[float, ...]]]:
    around = zip(polygon.tolist(), np.roll(polygon, -1, axis=0).tolist(), strict=True)
    return Counter(frozenset([tuple(start), tuple(end)]) for start, end in around if start != end)


def signed_area(polygon: Polygon) -> float:
    (x, y), (next_x, next_y) = polygon.T.astype(float), np.roll(polygon, -1, axis=0).T.astype(float)
    return float((x * next_y - next_x * y).sum() / 2)


@pytest.mark.parametrize("seed", range(20))
def test_joining_keeps_every_edge_and_crosses_each_bridge_twice(seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [ring(generator, tuple(generator.uniform(0, 400, 2))) for _ in range(generator.integers(2, 7))]
    whole = joined(parts)
    assert whole is not None
    expected: Counter[frozenset[tuple[float, ...]]] = Counter()
    for part in parts:
        expected += edges(part)
    for one, other in pairwise(parts):
        pairs = [(p.tolist(), q.tolist()) for p in one for q in other]
        nearest = min(pairs, key=lambda pair: (pair[0][0] - pair[1][0]) ** 2 + (pair[0][1] - pair[1][1]) ** 2)
        expected[frozenset(tuple(end) for end in nearest)] += 2
    assert edges(whole) == expected
    assert signed_area(whole) == pytest.approx(sum(map(signed_area, parts)), rel=1e-3)


def test_one_part_stays_and_none_gives_none() -> None:
    part = np.array(TRIANGLE, np.float32).reshape(-1, 2)
    assert joined([part]) is part
    assert joined([]) is None


def test_resampling_is_even_by_vertex_not_by_length() -> None:
    square = np.array([[0, 0], [8, 0], [8, 1], [0, 1]], np.float32)
    points = [[0, 0], [4, 0], [8, 0], [8, 0.5], [8, 1], [4, 1], [0, 1], [0, 0.5], [0, 0]]
    np.testing.assert_allclose(resampled(square, 9), np.array(points))


def test_resampling_agrees_with_the_reference(shared: Path, parity: Compare) -> None:
    """Whose recorded outlines are clipped to the frame."""
    held = parity("mmyolo", "augmentations")
    with np.load(shared / "facts/mmyolo/goldens/mask_refine_affine.npz") as golden:
        for case in ("scale_shift", "down", "rotshear"):
            matrix = golden[f"{case}_M_total"]
            for name in ("0_0", "1_0", "1_1", "2_0", "3_0"):
                polygon = golden[f"poly{name}"].reshape(-1, 2)
                warped = polygon @ matrix[:2, :2].T + matrix[:2, 2]
                kept = golden[f"{case}_refine_kept{name}"].reshape(-1, 2)
                ours = resampled(warped, 1000).clip(0, golden[f"{case}_dst_hw"][::-1])
                held.require_close("points of outlines", "px", ours, kept, 1e-9)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ([[10, 5], [30, 5], [30, 15], [10, 15]], [10, 5, 30, 15]),  # inside
        ([[-10, 5], [30, 5], [30, 15], [-10, 15]], [0, 5, 30, 15]),  # over the left side
        ([[0, 0], [60, 0], [60, 40], [0, 40]], [0, 0, 60, 40]),  # the frame itself
        ([[-9, -9], [99, -9], [99, 99], [-9, 99]], [0, 0, 0, 0]),  # round the frame
        ([[80, 5], [90, 5], [90, 15], [80, 15]], [0, 0, 0, 0]),  # beside it
    ],
)
def test_the_outline_inside_the_frame_makes_the_box(corners: list[list[float]], box: list[float]) -> None:
    found = extent_inside(np.array(corners, np.float32), (40, 60))
    np.testing.assert_allclose(np.asarray(found, float), np.array(box, float), atol=0.2)


@pytest.mark.parametrize("vertices", [1, 3, 8, 27, 37, 111, 500, 999, 1000, 1998, 3000])
def test_many_outlines_at_once_are_boxed_as_one_at_a_time(vertices: int) -> None:
    """Also where the points of an outline fall on its vertices, and where not every edge has a point."""
    generator = np.random.default_rng(vertices)
    places = generator.uniform(-40, 100, (60, 1, 2))
    polygons = list(
        places + generator.uniform(-1, 1, (60, vertices, 2)) * generator.uniform(0, 60, (60, 1, 1))
    )
    polygons[1] = polygons[1].clip(0, 40)  # on the border of the frame
    polygons.append(generator.uniform(-9, 50, (5, 2)))
    expected = [extent_inside(polygon, (40, 60)) for polygon in polygons]
    lengths = [len(polygon) for polygon in polygons]
    found = extents_inside(np.concatenate(polygons), lengths, (40, 60))
    assert np.array_equal(found.astype(np.float32), np.array(expected, np.float32))
    inside = [box[:2].min() > 0 and box[2] < 60 and box[3] < 40 for box in expected]
    assert any(inside) and not all(box.any() for box in expected)


def test_filling_paints_the_polygons_and_their_outlines() -> None:
    square = np.array([[2.9, 1], [5, 1], [5, 3], [2.9, 3]], np.float32)
    beyond = np.array([[8, -4], [20, -4], [20, 1], [8, 1]], np.float32)
    expected: NDArray[np.uint8] = np.zeros((6, 10), np.uint8)
    expected[1:4, 2:6] = 1
    expected[0:2, 8:] = 1
    assert np.array_equal(filled([square, beyond], (6, 10)), expected)
    assert not filled([], (6, 10)).any()


@pytest.mark.parametrize("pairs", [1, 7, 10**6])
def test_parts_are_joined_alike_however_many_pairs_are_looked_at_at_once(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pixels, so that many pairs are equally near and the first must be taken."""
    monkeypatch.setattr(polygons, "PAIRS_AT_ONCE", pairs)
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = (generator.integers(0, 6, (size, 2)).astype(np.float32) for size in (9, 5))
        nearest = min(
            ((float(np.hypot(*(a - b))), i, k) for i, a in enumerate(one) for k, b in enumerate(other))
        )
        assert polygons._nearest(one, other) == nearest[1:]


def test_polygons_too_long_to_be_joined_are_refused() -> None:
    """The distances between all their vertices would take 13 GB."""
    entry = {
        "id": 7,
        "category_id": 1,
        "bbox": [0, 0, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "segmentation": [[1.0, 2.0] * 40_000] * 2,
    }
    with pytest.raises(DatasetError, match="annotation 7 has polygons of 40,000 vertices, too many"):
        objects_of([entry], {1: 0}, 20, 20, mask_refine=True)
    assert len(objects_of([entry], {1: 0}, 20, 20, mask_refine=False).labels) == 1

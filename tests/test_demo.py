"""The demo set against what was painted, pycocotools, closed forms, and guesses that ignore the pixels."""

import functools
import hashlib
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Curve
from numpy.random import MT19937, RandomState, SeedSequence
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from yolov9bench.data import demo
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.demo import (
    NAMES,
    SPLITS,
    SUBPIXELS,
    Mask,
    Scene,
    draw_scene,
    make_demo,
    outlines,
    scene_annotations,
)
from yolov9bench.errors import DatasetError, SettingsError, StorageError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.predict.predictions import Predictions, predictions_from_rows

# Of the default set; when it changes, DEMO_VERSION has to.
DEFAULT_HASH = "33c252d549caca52bc4752a1b75adc30267c2dd8a2cd19e02f4f4dbc3dc5fdf6"

Boxes = NDArray[np.float64]


def demo_hash(folder: Path) -> str:
    """The sha256 over both annotation files and the size and decoded pixels of every image."""
    digest = hashlib.sha256()
    for dataset in (read_coco(folder, split) for split in SPLITS):
        digest.update(dataset.annotations_sha256.encode())
        for image in dataset.images:
            pixels = read_image(dataset.image_path(image))
            digest.update(f"{image.file_name} {pixels.shape}".encode())
            digest.update(pixels.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default set."""
    return make_demo(tmp_path_factory.mktemp("demo") / "set")


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, CocoDataset]:
    return {split: read_coco(folder, split) for split in SPLITS}


@functools.cache
def drawn(split: str, index: int) -> Scene:
    """A scene of the default set."""
    return draw_scene(0, split, index, 128)


def by_image(dataset: CocoDataset, crowds: bool = False) -> dict[int, list[dict[str, Any]]]:
    """The annotations of each image, also where there are none, of objects or of crowds."""
    found: dict[int, list[dict[str, Any]]] = {image.id: [] for image in dataset.images}
    for entry in dataset.annotations:
        if entry["iscrowd"] == crowds:
            found[entry["image_id"]].append(entry)
    return found


@pytest.mark.accuracy
def test_pixels_and_annotations_are_the_same_on_every_machine(folder: Path) -> None:
    assert demo_hash(folder) == DEFAULT_HASH


def test_hash_sees_one_pixel_and_one_box(tmp_path: Path) -> None:
    root = make_demo(tmp_path / "demo", train=3, val=3)
    hashes = {demo_hash(root)}
    scene = root / "val" / "000003.png"
    pixels = read_image(scene)
    pixels[5, 5, 0] ^= 1
    scene.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    hashes.add(demo_hash(root))
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    hashes.add(demo_hash(root))
    assert len(hashes) == 3


def test_an_image_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    few = make_demo(tmp_path / "demo", train=5, val=4)
    for split, count in (("train", 5), ("val", 4)):
        for name in (f"{number:06d}.png" for number in range(1, count + 1)):
            assert np.array_equal(read_image(few / split / name), read_image(folder / split / name))
    whole, part = read_coco(folder, "val").annotations, read_coco(few, "val").annotations
    assert part == whole[: len(part)] and part


def test_no_image_comes_twice_and_seeds_differ(folder: Path) -> None:
    images = [read_image(path).tobytes() for path in sorted(folder.glob("*/*.png"))]
    assert len(set(images)) == len(images) == 500
    other = draw_scene(seed=1, split="val", index=0, size=128)
    assert not np.array_equal(other.pixels, read_image(folder / "val" / "000001.png"))


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_what_makes_detection_hard(splits: dict[str, CocoDataset], split: str) -> None:
    dataset = splits[split]
    objects, crowds = by_image(dataset), by_image(dataset, crowds=True)
    counts = Counter(len(entries) for entries in objects.values())
    assert set(counts) == set(range(9))  # none to eight objects, and images with nothing at all
    assert sum(not objects[number] and not crowds[number] for number in objects) >= len(objects) // 20
    assert sum(len(entries) for entries in crowds.values()) >= len(objects) // 20
    assert dataset.names == NAMES and len(NAMES) == 6
    labels = Counter(entry["category_id"] for entries in objects.values() for entry in entries)
    total = labels.total()
    assert all(0.1 * total < labels[number] < 0.25 * total for number, _ in dataset.categories)
    sides = [max(entry["bbox"][2:]) for entries in objects.values() for entry in entries]
    assert min(sides) in (8, 9) and 56 <= max(sides) <= 64
    assert np.percentile(sides, 25) < 20 and np.percentile(sides, 75) > 30


def test_images_have_odd_shapes(splits: dict[str, CocoDataset]) -> None:
    images = [image for dataset in splits.values() for image in dataset.images]
    assert {max(image.width, image.height) for image in images} == {128}
    ratios = [image.width / image.height for image in images]
    assert min(ratios) < 0.45 and max(ratios) > 2.2
    assert 0.4 < np.mean([ratio > 1 for ratio in ratios]) < 0.6
    assert len({min(image.width, image.height) for image in images}) > 30


def recorded_strokes(monkeypatch: pytest.MonkeyPatch, index: int) -> tuple[Scene, list[Mask]]:
    """A scene, and for every object painted the pixels that changed just then."""
    strokes: list[Mask] = []
    paint = demo._paint

    def recording(random: RandomState, pixels: Pixels, mask: Mask) -> None:
        before = pixels.copy()
        paint(random, pixels, mask)
        strokes.append((pixels != before).any(axis=2))

    monkeypatch.setattr(demo, "_paint", recording)
    return draw_scene(0, "val", index, 128), strokes


@pytest.mark.parametrize("index", [number for number in range(40) if number % 16 not in (1, 2)])
def test_boxes_and_polygons_are_what_was_painted_and_is_seen(
    monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    """To a pixel, which by chance may be painted in the very colour that it had."""
    scene, strokes = recorded_strokes(monkeypatch, index)
    entries = scene_annotations(scene)
    assert len(entries) == len(strokes) > 0
    later = np.zeros(scene.owners.shape, bool)
    for entry, stroke in zip(reversed(entries), reversed(strokes), strict=True):
        seen = stroke & ~later
        later |= stroke
        rows, columns = np.nonzero(seen)
        painted = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        x, y, width, height = entry["bbox"]
        assert np.abs(np.subtract(painted, (x, y, x + width, y + height))).max() <= 1
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in entry["segmentation"]])
        assert (*points.min(axis=0), *points.max(axis=0)) == (x, y, x + width, y + height)
        assert entry["area"] == pytest.approx(int(seen.sum()), rel=0.01, abs=1)


def inside(polygons: list[list[int]], shape: tuple[int, ...]) -> Mask:
    """The pixels whose centres lie in one of the polygons."""
    height, width = shape
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    hits = [Curve(np.reshape(part, (-1, 2))).contains_points(centres) for part in polygons]
    return np.asarray(np.any(hits, axis=0)).reshape(height, width)


def without_holes(mask: Mask) -> Mask:
    """A mask and all that cannot be reached from the border without crossing it."""
    _, parts = cv2.connectedComponents(
        np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=8
    )
    return np.asarray(parts != parts[0, 0])[1:-1, 1:-1]


@pytest.mark.parametrize("index", range(20))
def test_polygons_hold_the_very_pixels_but_for_holes(index: int) -> None:
    scene = drawn("train", index)
    for number, entry in enumerate(scene_annotations(scene)):
        if not entry["iscrowd"]:
            expected = without_holes(scene.owners == number)
            assert np.array_equal(inside(entry["segmentation"], scene.owners.shape), expected)


def test_outlines_by_hand() -> None:
    mask = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]], bool)
    assert outlines(mask) == [
        [0, 0, 0, 2, 1, 2, 1, 1, 2, 1, 2, 0],
        [3, 1, 3, 2, 4, 2, 4, 1],
        [4, 2, 4, 3, 5, 3, 5, 2],
    ]
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert outlines(ring) == [[0, 0, 0, 3, 3, 3, 3, 0]]
    assert outlines(np.zeros((3, 3), bool)) == []


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_crowds_are_read_by_pycocotools(splits: dict[str, CocoDataset]) -> None:
    read = 0
    for split, dataset in splits.items():
        for entries in by_image(dataset, crowds=True).values():
            for entry in entries:
                runs = entry["segmentation"]
                scene = drawn(split, entry["image_id"] - 1)
                assert np.array_equal(coco_mask.decode(runs) == 1, scene.owners == 0)
                assert coco_mask.area(runs) == entry["area"]
                assert coco_mask.toBbox(runs).tolist() == entry["bbox"]
                read += 1
    assert read >= 25  # an image in twenty has one


def test_objects_hide_one_another_but_not_too_much() -> None:
    shares = []
    for index in range(100):
        scene = drawn("train", index)
        seen = [(scene.owners == number).sum() for number in range(len(scene.areas))]
        shares += [count / area for count, area in zip(seen, scene.areas, strict=True)][scene.crowd :]
    assert min(shares) >= 0.6
    assert 0.3 < np.mean(np.array(shares) < 0.99) < 0.7


@pytest.mark.parametrize("direction", [(1, -3), (-33, 1), (63, 25)])
@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("disc", math.pi),
        ("square", 1.6**2),
        ("triangle", 1.5 * 6 / 7),
        ("star", 5 * math.sin(math.pi / 5) * math.sin(math.pi / 10) / math.sin(3 * math.pi / 10)),
        ("ring", math.pi * 2 / 3),
        ("cross", 4 * 0.6 - 0.36),
    ],
)
def test_shapes_have_their_areas_in_any_direction(name: str, area: float, direction: tuple[int, int]) -> None:
    """Closed forms for a circle of radius 1; here it is 28 pixels, and squeezed to 9/12."""
    contours = demo.place_contours(NAMES.index(name), SUBPIXELS * 28, 9, *direction)
    mask, painted = demo.fill(contours, SUBPIXELS * 50, SUBPIXELS * 50, (100, 100))
    assert painted == mask.sum() == pytest.approx(area * 28**2 * 9 / 12, rel=0.03)


def test_shapes_are_squeezed_across_their_direction() -> None:
    """A cross is as long as its circle along its own x axis, here turned downwards, and 8/12 of it across."""
    (corners,) = demo.place_contours(NAMES.index("cross"), 120, 8, 0, 1)
    assert (*corners.min(axis=0), *corners.max(axis=0)) == (-80, -120, 80, 120)


def test_shapes_beyond_the_border_keep_their_area() -> None:
    contours = demo.place_contours(NAMES.index("disc"), SUBPIXELS * 20, 12, 1, 0)
    (_, expected), (mask, area) = (demo.fill(contours, x, SUBPIXELS * 50, (100, 100)) for x in (200, 0))
    assert area == expected == 2 * mask.sum()


def test_the_even_odd_rule_agrees_with_opencv() -> None:
    """Seven random corners in any order; cv2.pointPolygonTest gives 1 inside, 0 on an edge and -1 outside."""
    random = np.random.default_rng(0)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    centres = SUBPIXELS * np.stack([columns, rows], axis=-1).reshape(-1, 2)
    for _ in range(30):
        corners, (x, y) = random.integers(-100, 100, (7, 2)), random.integers(0, (160, 120)).tolist()
        mask, _ = demo.fill([corners], x, y, (30, 40))
        moved = (corners + (x, y)).astype(np.int32)  # noqa: RUF005
        sides = np.array([cv2.pointPolygonTest(moved, centre, False) for centre in centres.tolist()])
        assert (sides != 0).sum() > 1000
        assert np.array_equal(mask.ravel()[sides != 0], sides[sides != 0] > 0)


def test_a_second_contour_is_a_hole() -> None:
    square = np.array([[-8, -8], [8, -8], [8, 8], [-8, 8]])
    mask, area = demo.fill([square, square // 2], 4 * 3, 4 * 2, (4, 5))
    full, gap = [0, 1, 1, 1, 1], [0, 1, 0, 0, 1]
    assert mask.astype(int).tolist() == [full, gap, gap, full]
    assert area == 12


def test_random_numbers_are_even_and_those_of_the_frozen_stream() -> None:
    """If this fails, NumPy has changed its RandomState, and the hash of the set with it."""
    random = RandomState(MT19937(SeedSequence((0, 1, 2))))
    assert random.randint(0, 6, (2, 3)).tolist() == [[0, 3, 2], [0, 4, 4]]
    counts = Counter(random.randint(-2, 4, 6000).tolist())
    assert set(counts) == {-2, -1, 0, 1, 2, 3}
    assert all(900 < count < 1100 for count in counts.values())


def mean_colours(split: str, count: int) -> tuple[Boxes, NDArray[np.int64]]:
    """The mean colour of what is visible of every object [n, 3], and its label [n]."""
    colours, labels = [], []
    for scene in (drawn(split, index) for index in range(count)):
        for number in range(scene.crowd, len(scene.labels)):
            colours.append(scene.pixels[scene.owners == number].mean(axis=0))
            labels.append(scene.labels[number])
    return np.array(colours), np.array(labels)


def test_colour_does_not_tell_the_class() -> None:
    """The seven objects nearest in colour guess a class about as well as chance, which is right in 1/6."""
    known, classes = mean_colours("train", 400)
    asked, truth = mean_colours("val", 100)
    nearest = np.argsort(np.linalg.norm(asked[:, None] - known, axis=2), axis=1)[:, :7]
    guesses = [Counter(row).most_common(1)[0][0] for row in classes[nearest].tolist()]
    assert np.mean(np.array(guesses) == truth) < 0.24


def corners(entry: dict[str, Any]) -> list[float]:
    x, y, width, height = entry["bbox"]
    return [x, y, x + width, y + height]


def grid_of_boxes(places: int, sides: tuple[int, ...], width: int, height: int) -> Boxes:
    """Squares [n, 4] of some sizes around the points of a grid over a scene, cut off at its border."""
    steps = (np.arange(places) + 0.5) / places
    centres = np.stack(np.meshgrid(steps * width, steps * height), axis=-1).reshape(-1, 1, 2)
    half = np.array(sides).reshape(1, -1, 1) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=2).reshape(-1, 4)
    return np.asarray(np.clip(boxes, 0, [width, height, width, height]))


def overlaps(boxes: Boxes, others: Boxes) -> Boxes:
    """IoU [n, m]."""
    low, high = (
        pick(boxes[:, None, part], others[None, :, part])
        for pick, part in ((np.maximum, slice(0, 2)), (np.minimum, slice(2, 4)))
    )
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas, other_areas = ((group[:, 2:] - group[:, :2]).prod(axis=1) for group in (boxes, others))
    return np.asarray(shared / (areas[:, None] + other_areas[None] - shared))


def blind_guesses(splits: dict[str, CocoDataset], places: int, sides: tuple[int, ...]) -> Predictions:
    """The same boxes of every class on each scene, scored by how often they meet one in training."""
    hits = np.zeros((len(NAMES), places**2 * len(sides)))
    objects = by_image(splits["train"])
    for image in splits["train"].images:
        boxes = grid_of_boxes(places, sides, image.width, image.height)
        for entry in objects[image.id]:
            hits[entry["category_id"] - 1] += overlaps(boxes, np.array([corners(entry)]))[:, 0] > 0.5
    rows = []
    for image in splits["val"].images:
        boxes = grid_of_boxes(places, sides, image.width, image.height)
        for label, place in np.argwhere(hits):
            x, y, right, bottom = boxes[place].tolist()
            score = hits[label, place] / len(objects)
            box = [x, y, right - x, bottom - y]
            rows.append({"image_id": image.id, "category_id": int(label) + 1, "bbox": box, "score": score})
    return predictions_from_rows(rows)


@pytest.mark.parametrize("places", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("sides", [(26,), (40,), (56,), (16, 28, 44)])
def test_guesses_that_ignore_the_pixels_score_next_to_nothing(
    splits: dict[str, CocoDataset], places: int, sides: tuple[int, ...]
) -> None:
    guesses = blind_guesses(splits, places, sides)
    assert guesses
    assert 0 <= coco_metrics(splits["val"].ground_truth(), guesses)["AP"] < 0.02


def test_a_whole_set_is_kept_and_its_empty_folder_filled(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    root.mkdir()
    assert make_demo(root, train=3, val=3) == root
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert len(times) == 3 + 6 + 2
    assert make_demo(root, train=3, val=3) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def spoil_an_image(root: Path) -> None:
    (root / "train" / "000002.png").unlink()


def spoil_the_boxes(root: Path) -> None:
    (root / "annotations" / "instances_val.json").write_text("[]")


@pytest.mark.parametrize("spoil", [spoil_an_image, spoil_the_boxes])
def test_a_set_with_a_gap_is_refused(tmp_path: Path, spoil: Any) -> None:
    root = make_demo(tmp_path / "demo", train=3, val=3)
    spoil(root)
    with pytest.raises(DatasetError, match="does not hold the whole demo set"):
        make_demo(root, train=3, val=3)


@pytest.mark.parametrize("other", [{"seed": 1}, {"train": 4}, {"val": 4}, {"image_size": 96}])
def test_another_set_in_the_folder_is_refused(tmp_path: Path, other: dict[str, int]) -> None:
    root = make_demo(tmp_path / "demo", train=3, val=3)
    before = demo_hash(root)
    with pytest.raises(DatasetError, match="move it away or name another folder"):
        make_demo(root, **({"train": 3, "val": 3} | other))
    assert demo_hash(root) == before


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    file.write_text("dear")
    for place in (folder, file):
        with pytest.raises(DatasetError, match=f"{place.name} does not hold"):
            make_demo(place, train=3, val=3)
    assert (folder / "letter.txt").read_text() == file.read_text() == "dear"


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(28, "No space"), StorageError), (KeyboardInterrupt,) * 2]
)
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, seen: type[BaseException]
) -> None:
    calls: defaultdict[str, int] = defaultdict(int)
    encode = cv2.imencode

    def failing(*arguments: Any) -> Any:
        calls["imencode"] += 1
        if calls["imencode"] == 5:
            raise error
        return encode(*arguments)

    monkeypatch.setattr(cv2, "imencode", failing)
    with pytest.raises(seen):
        make_demo(tmp_path / "demo", train=3, val=3)
    assert calls["imencode"] == 5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"train": 2}, "train is 2"),
        ({"val": 0}, "val is 0"),
        ({"image_size": 95}, "95"),
    ],
)
def test_numbers_that_are_too_small_are_refused(tmp_path: Path, numbers: dict[str, int], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        make_demo(tmp_path / "demo", **numbers)
    assert not list(tmp_path.iterdir())


def test_other_sizes_keep_their_objects(tmp_path: Path) -> None:
    dataset = read_coco(make_demo(tmp_path / "demo", train=3, val=8, image_size=321), "val")
    assert all(max(image.width, image.height) == 321 for image in dataset.images)
    sides = [max(entry["bbox"][2:]) for entries in by_image(dataset).values() for entry in entries]
    assert len(sides) > 8
    assert all(8 <= side <= 64 for side in sides)

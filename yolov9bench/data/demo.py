"""The demo set: images of six shapes on textured grounds in COCO's format, for trying out and for training.

Decoded pixels and annotations depend on the seed alone and are meant to be the same on every machine and with
every version of the libraries. NumPy's RandomState is frozen (NEP 19), OpenCV's INTER_LINEAR_EXACT is
bit-exact, shapes are filled in whole numbers without antialiasing, and of floating point only what IEEE 754
defines to the last bit is used. cv2.fillPoly would not do: 4.10 and 5.0 fill different pixels.
"""

import json
import math
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import MT19937, RandomState, SeedSequence
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from yolov9bench.data.coco import read_coco
from yolov9bench.data.layouts import annotation_path
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.io.files import storage_errors
from yolov9bench.io.locks import wait_for_turn
from yolov9bench.io.progress import track
from yolov9bench.ops.images import Pixels

DEMO_NAME = "yolov9bench-demo"
DEMO_VERSION = 2  # raised whenever a pixel or a box of the same seed changes
SPLITS = ("train", "val")
# Room for a crowd, an empty image and large objects.
SMALLEST = {"seed": 0, "train": 3, "val": 3, "image_size": 96}

CROWD_TURN, EMPTY_TURN, TURNS = 1, 2, 16  # of every 16 images the second has a crowd, the third no object
MOST_OBJECTS, TRIES = 8, 20  # to an image; to find a position for an object
SUBPIXELS = 4  # to a pixel's side: the unit of positions and radii
RADII, REACH = (18, 112), 30  # objects of about 8 to 56 pixels; more pixels than the largest radius
CROWD_SIZES, CROWD_RADII = (12, 20), (16, 24)
LEAST_SHARE, LEAST_SIDE = 0.6, 8  # of an object's pixels, and in pixels: what stays visible

# Closed contours in thousandths of the radius, y downwards; a second contour is a hole.
_CIRCLE = np.array(cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 0, 350, 10))
_STAR = [(0, -1000), (225, -309), (951, -309), (363, 118), (588, 809), (0, 382)]
_CROSS = [(-300, -1000), (300, -1000), (300, -300), (1000, -300), (1000, 300), (300, 300)]
CONTOURS: dict[str, list[Any]] = {
    "disc": [_CIRCLE],
    "square": [[(-800, -800), (800, -800), (800, 800), (-800, 800)]],
    "triangle": [[(0, -1000), (857, 500), (-857, 500)]],
    "star": [_STAR + [(-x, y) for x, y in _STAR[4:0:-1]]],
    "ring": [_CIRCLE, _CIRCLE * 577 // 1000],
    "cross": [_CROSS + [(-x, -y) for x, y in _CROSS]],
}
NAMES = tuple(CONTOURS)

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Numbers = tuple[int, ...]


@dataclass
class Scene:
    """Pixels uint8 [H, W, 3] and the objects on them in drawing order, of which the first may be a crowd."""

    pixels: Pixels
    owners: Ints  # [H, W]: which object is visible where, or -1
    labels: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)  # with the pixels that are hidden or cut off
    crowd: bool = False


def make_demo(folder: Path, seed: int = 0, train: int = 400, val: int = 100, image_size: int = 128) -> Path:
    """Write the demo set into a folder, whole or not at all, and return the folder; keep it if it is there.

    `train` and `val` count the images, `image_size` is their longer side in pixels. An image depends on
    seed, size, split and its number, not on how many there are. SettingsError: a number that is too small.
    DatasetError: a folder that holds something else. StorageError: a full or forbidden disk.
    """
    settings = dict(zip(SMALLEST, (seed, train, val, image_size), strict=True))
    for name, number in settings.items():
        if number < SMALLEST[name]:
            raise SettingsError(f"The demo set's {name} is {number}: give {SMALLEST[name]} or more.")
    info = {"description": DEMO_NAME, "version": str(DEMO_VERSION), **settings}
    if not _holds_something(folder):
        with wait_for_turn(folder.with_name(f".{folder.name}.lock"), "draws the demo set"):
            if not _holds_something(folder):  # nor has another process drawn it meanwhile
                _write_set(folder, settings, info)
                return folder
    _require_same(folder, info)
    return folder


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (folder.is_file() or any(folder.iterdir()))


def _write_set(folder: Path, settings: dict[str, int], info: dict[str, Any]) -> None:
    """Draw all splits beside the folder, then give them its name; what a killed process drew is removed."""
    with storage_errors(folder):
        for stray in folder.parent.glob(f".{folder.name}-????????"):
            shutil.rmtree(stray)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parent:
            fresh = Path(parent, folder.name)
            for split in SPLITS:
                _write_split(fresh, split, settings[split], info)
            if folder.exists():
                folder.rmdir()  # an empty one
            fresh.replace(folder)


def _require_same(folder: Path, info: dict[str, Any]) -> None:
    """DatasetError unless the folder holds this very set with all its images."""
    with suppress(DatasetError, OSError, ValueError, LookupError, TypeError):
        paths = [annotation_path(read_coco(folder, split).root, split) for split in SPLITS]
        if all(json.loads(path.read_bytes())["info"] == info for path in paths):
            return
    raise DatasetError(f"{folder} does not hold the whole demo set: move it away or name another folder.")


def _write_split(root: Path, split: str, count: int, info: dict[str, Any]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (root / split).mkdir(parents=True)
    for index in track(range(count), count, f"drawing {split} of the demo set", "images"):
        scene = draw_scene(info["seed"], split, index, info["image_size"])
        height, width = scene.owners.shape
        name = f"{index + 1:06d}.png"
        (root / split / name).write_bytes(cv2.imencode(".png", scene.pixels)[1].tobytes())
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for entry in scene_annotations(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **entry})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)]
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    annotation_path(root, split).parent.mkdir(exist_ok=True)
    annotation_path(root, split).write_bytes(json.dumps(content).encode())


def scene_annotations(scene: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, without ids, of what is visible: whole pixels, as drawn.

    An object has a polygon for each of its parts, along the pixels' edges; as always in COCO, polygons do not
    leave out holes, while `area` counts the drawn pixels. A crowd has a run-length mask.
    """
    entries = []
    for number, label in enumerate(scene.labels):
        mask, crowd = scene.owners == number, scene.crowd and number == 0
        runs: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        box, area = coco_mask.toBbox(runs).tolist(), int(coco_mask.area(runs))
        shape = runs | {"counts": runs["counts"].decode()} if crowd else outlines(mask)
        entry = {"category_id": label + 1, "bbox": box, "area": area, "iscrowd": int(crowd)}
        entries.append(entry | {"segmentation": shape})
    return entries


def outlines(mask: Mask) -> list[list[int]]:
    """The outer outline [x, y, x, y, ...] of each part of a mask [H, W], along pixels' edges, without holes.

    OpenCV's contours run through the pixels' centres. Three times as large and shrunk by one, a pixel covers
    3x + 1 and 3x + 2, which become its edges x and x + 1; pixels that touch at a corner alone fall apart.
    """
    fine = cv2.erode(np.kron(mask, np.ones((3, 3))).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = (((contour[:, 0] + 1) // 3).tolist() for contour in contours)
    return sorted([number for point, _ in groupby(part) for number in point] for part in parts)


def draw_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """The image of a split at an index from 0, `size` pixels on its longer side: objects, or a crowd too."""
    random = RandomState(MT19937(SeedSequence((seed, SPLITS.index(split), index))))
    short = size * random.randint(7, 17) // 16 - random.randint(4)
    shape = (size, short) if random.randint(2) else (short, size)
    scene = Scene(_texture(random, shape, random.randint(0, 256, 3)), np.full(shape, -1))
    if index % TURNS == CROWD_TURN:
        _add_crowd(random, scene)
    if index % TURNS != EMPTY_TURN:
        for _ in range(random.randint(1, MOST_OBJECTS + 1)):
            _add_object(random, scene)
    return scene


def _add_crowd(random: RandomState, scene: Scene) -> None:
    """Draw many small objects of one label close together in half the width and height, as one region."""
    height, width = scene.owners.shape
    label, left, top = (random.randint(number) for number in (len(NAMES), width // 2, height // 2))
    for _ in range(random.randint(*CROWD_SIZES)):
        mask, _ = _draw(random, label, CROWD_RADII, (left, top, width // 2, height // 2), scene)
        scene.owners[mask] = 0
        _paint(random, scene.pixels, mask)
    scene.labels, scene.areas, scene.crowd = [label], [int((scene.owners == 0).sum())], True


def _add_object(random: RandomState, scene: Scene) -> None:
    """Draw an object where enough of it and of the earlier ones stays visible, if such a place is found."""
    height, width = scene.owners.shape
    label = random.randint(len(NAMES))
    for _ in range(TRIES):
        mask, area = _draw(random, label, RADII, (0, 0, width, height), scene)
        owners, areas = np.where(mask, len(scene.labels), scene.owners), [*scene.areas, area]
        if all(_is_visible(owners == number, whole) for number, whole in enumerate(areas)):
            scene.owners, scene.labels, scene.areas = owners, [*scene.labels, label], areas
            _paint(random, scene.pixels, mask)
            break


def _is_visible(mask: Mask, area: int) -> bool:
    sides = cv2.boundingRect(mask.astype(np.uint8))[2:]
    return bool(mask.sum() >= LEAST_SHARE * area) and max(sides) >= LEAST_SIDE


def _draw(random: RandomState, label: int, radii: Numbers, box: Numbers, scene: Scene) -> tuple[Mask, int]:
    """`fill` a shape in any direction, up to a third lower than wide, centred in a box [x, y, w, h]."""
    left, top, width, height = (SUBPIXELS * side for side in box)
    x, y = left + random.randint(width + 1), top + random.randint(height + 1)
    direction = 2 * random.randint(-32, 32, 2) + 1  # never (0, 0)
    radius, squeeze = random.randint(radii[0], radii[1] + 1), random.randint(8, 13)
    return fill(place_contours(label, radius, squeeze, *direction), x, y, scene.owners.shape)


def place_contours(label: int, radius: int, squeeze: int, across: int, down: int) -> list[Ints]:
    """A shape's contours in subpixels around its centre, its x axis turned; its height in twelfths."""
    turn = radius * np.array([[12 * across, 12 * down], [-squeeze * down, squeeze * across]])
    length = 12 * 1000 * math.sqrt(across**2 + down**2)
    return [np.rint(np.array(points) @ turn / length).astype(int) for points in CONTOURS[NAMES[label]]]


def fill(contours: list[Ints], x: int, y: int, shape: Numbers) -> tuple[Mask, int]:
    """Which pixels' centres of an image [H, W] lie in contours around its point (x, y), and how many in all.

    By the even-odd rule: a ray from there to the left crosses an odd number of edges. Units are subpixels.
    """
    x0, y0 = np.concatenate(contours).T[..., None, None]
    x1, y1 = np.concatenate([np.roll(points, 1, axis=0) for points in contours]).T[..., None, None]
    window = SUBPIXELS * np.arange(-REACH, REACH) + SUBPIXELS // 2
    across, down = window - x % SUBPIXELS, (window - y % SUBPIXELS)[:, None]
    crosses_line = (y0 > down) != (y1 > down)
    is_right = ((x1 - x0) * (down - y0) < (y1 - y0) * (across - x0)) == (y1 > y0)
    inside = np.logical_xor.reduce(crosses_line & is_right)
    canvas = np.zeros([side + 2 * REACH for side in shape], bool)
    canvas[y // SUBPIXELS :, x // SUBPIXELS :][: 2 * REACH, : 2 * REACH] = inside
    return canvas[REACH:-REACH, REACH:-REACH], int(inside.sum())


def _paint(random: RandomState, pixels: Pixels, mask: Mask) -> None:
    """Cover a mask with a texture, in the one of four colours that differs most from what lies there."""
    colours = random.randint(0, 256, (4, 3))
    differences = abs(pixels[mask].astype(int) - colours[:, None]).sum(axis=2)
    tenths = np.sort(differences, axis=1)[:, mask.sum() // 10]  # nine in ten of the pixels differ by more
    pixels[mask] = _texture(random, mask.shape, colours[np.argmax(tenths)])[mask]


def _texture(random: RandomState, shape: Numbers, colour: Ints) -> Pixels:
    """A colour that turns into a similar one in blots, stripes or clouds, under grain: uint8 [H, W, 3]."""

    def noise(rows: int, columns: int) -> Ints:
        grid = random.randint(0, 256, (rows, columns)).astype(np.uint8)
        return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_LINEAR_EXACT).astype(int)[..., None]

    height, width = shape
    share = noise(random.randint(1, height // 5), random.randint(1, width // 5))
    if random.randint(2):
        share = np.where(share < 128, 0, 255)  # sharp edges
    grain = sum(noise(height // cell, width // cell) - 128 for cell in (1, 3, 9))
    mixed = colour + random.randint(-60, 61, 3) * share // 255 + grain * random.randint(10, 51) // 255
    return np.clip(mixed + random.randint(-8, 9, (*shape, 3)), 0, 255).astype(np.uint8)

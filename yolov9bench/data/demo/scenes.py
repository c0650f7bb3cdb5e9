"""The demo set: images of six shapes in COCO's format, written here, for trying out and for learning anew.

Pixels and annotations depend on the seed alone (`shapes` says why) and are the same on every machine. PNG
keeps the pixels, but its bytes may differ with the library that packs them: `demo_hash` reads the pixels.
"""

import hashlib
import json
import secrets
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolov9bench.data.annotations import annotation_path
from yolov9bench.data.coco import read_coco
from yolov9bench.data.demo.shapes import NAMES, Dice, Mask, Scene, draw_scene
from yolov9bench.errors import DatasetError, SettingsError, StorageError
from yolov9bench.io.progress import track
from yolov9bench.ops.images import read_image

DEMO_NAME = "yolov9bench-demo"
DEMO_VERSION = 1  # raised whenever a pixel or a box of the same seed changes
SPLITS = ("train", "val")
FEWEST_IMAGES = 3
SMALLEST_SIZE = 96  # pixels; the largest objects still fit into the shorter side

Edge = tuple[int, int, int]  # x, y, direction: an edge of a pixel, with the mask on its right
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # of the directions: right, down, left, up


def make_demo(folder: Path, seed: int = 0, train: int = 400, val: int = 100, image_size: int = 128) -> Path:
    """Write the demo set into a folder, whole or not at all, and return the folder; keep it if it is there.

    `train` and `val` count the images, `image_size` is their longer side in pixels. An image depends on
    seed, size, split and its number, not on how many there are. SettingsError: a number that is too small.
    DatasetError: a folder that holds something else. StorageError: a full or forbidden disk.
    """
    counts = dict(zip(SPLITS, (train, val), strict=True))
    _require_numbers(seed, counts, image_size)
    info = {"description": DEMO_NAME, "version": str(DEMO_VERSION), "seed": seed, "image_size": image_size}
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        _require_same(folder, info, counts)
        return folder
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        for split, count in counts.items():
            _write_split(fresh, split, count, info)
        if folder.exists():
            folder.rmdir()  # an empty one
        fresh.replace(folder)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}): check its rights and the free space."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def demo_hash(folder: Path) -> str:
    """The sha256 over both annotation files and the size and decoded pixels of every scene."""
    digest = hashlib.sha256()
    for split in SPLITS:
        dataset = read_coco(folder, split)
        digest.update(dataset.annotations_sha256.encode())
        for image in dataset.images:
            pixels = read_image(dataset.image_path(image))
            digest.update(f"{image.file_name} {pixels.shape}".encode())
            digest.update(pixels.tobytes())
    return digest.hexdigest()


def demo_scene(seed: int, split: str, index: int, image_size: int) -> Scene:
    """One image of a split by its index from 0."""
    return draw_scene(image_size, index, Dice(seed, SPLITS.index(split), index))


def scene_annotations(scene: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, without ids, of what is in sight: whole pixels, as painted.

    An object has a polygon for each of its parts, along the pixels' edges; as always in COCO, polygons do not
    leave out holes, while `area` counts the painted pixels. A crowd has a run-length mask.
    """
    entries = []
    for number, figure in enumerate(scene.figures):
        mask = scene.owners == number
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1
        entries.append(
            {
                "category_id": figure.label + 1,
                "bbox": [int(side) for side in box],
                "area": int(mask.sum()),
                "iscrowd": int(figure.crowd),
                "segmentation": run_lengths(mask) if figure.crowd else outlines(mask),
            }
        )
    return entries


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """COCO's uncompressed mask: lengths of the runs down the columns, outside and inside in turn."""
    flat = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {"counts": np.diff(changes, prepend=0, append=mask.size).tolist(), "size": list(mask.shape)}


def outlines(mask: Mask) -> list[list[int]]:
    """The outer outline [x, y, x, y, ...] of each part of a mask [H, W], clockwise along pixels' edges.

    Pixels that touch at a corner alone belong to two parts. The outlines of holes are left out.
    """
    edges = _edges(mask)
    outer = []
    for start in sorted(edge for edge in edges if edge[2] == 0):
        if start in edges:
            corners = _walk(edges, start)
            closed = [*corners, corners[0]]
            doubled_area = sum(x * down - across * y for (x, y), (across, down) in pairwise(closed))
            if doubled_area > 0:  # holes are walked round the other way
                outer.append([number for corner in corners for number in corner])
    return outer


def _edges(mask: Mask) -> set[Edge]:
    """The edges between inside and outside, each with the inside to its right."""
    padded = np.pad(mask, 1)
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners = (
        (0, 0),
        (1, 0),
        (1, 1),
        (0, 1),
    )  # where the upper, right, lower and left edge of a pixel begins
    edges: set[Edge] = set()
    for direction, (neighbour, (right, down)) in enumerate(zip(neighbours, corners, strict=True)):
        rows, columns = np.nonzero(mask & ~neighbour)
        edges.update(
            (x + right, y + down, direction) for x, y in zip(columns.tolist(), rows.tolist(), strict=True)
        )
    return edges


def _walk(edges: set[Edge], start: Edge) -> list[tuple[int, int]]:
    """The corners of the loop that an edge belongs to; its edges are taken out of the set."""
    corners = []
    edge, came = start, -1
    while edge in edges:
        edges.remove(edge)
        x, y, direction = edge
        if direction != came:
            corners.append((x, y))
        came = direction
        x, y = x + STEPS[direction][0], y + STEPS[direction][1]
        # To the right first, so that a loop keeps to pixels that touch by their sides.
        turns = ((x, y, (direction + turn) % 4) for turn in (1, 0, 3))
        edge = next((turned for turned in turns if turned in edges), start)
    return corners


def _write_split(root: Path, split: str, count: int, info: dict[str, Any]) -> None:
    (root / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for index in track(range(count), count, f"painting {split} of the demo set", "images"):
        scene = demo_scene(info["seed"], split, index, info["image_size"])
        height, width = scene.owners.shape
        name = f"{index + 1:06d}.png"
        (root / split / name).write_bytes(cv2.imencode(".png", scene.pixels)[1].tobytes())
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for entry in scene_annotations(scene):
            found.append({"id": len(found) + 1, "image_id": index + 1, **entry})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)]
    content = {"info": info, "images": images, "annotations": found, "categories": categories}
    file = annotation_path(root, split)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(json.dumps(content).encode())


def _require_numbers(seed: int, counts: dict[str, int], image_size: int) -> None:
    if seed < 0:
        raise SettingsError(f"The demo set's seed is {seed}: give a number from 0 up.")
    if image_size < SMALLEST_SIZE:
        raise SettingsError(
            f"The demo set's image_size is {image_size}: give {SMALLEST_SIZE} pixels or more."
        )
    for split, count in counts.items():
        if count < FEWEST_IMAGES:
            raise SettingsError(
                f"The demo set's {split} is {count}: give {FEWEST_IMAGES} images or more, "
                "so that objects, a crowd and an empty image are among them."
            )


def _require_same(folder: Path, info: dict[str, Any], counts: dict[str, int]) -> None:
    """DatasetError unless the folder holds this very set with all its images."""
    try:
        same = all(
            json.loads(annotation_path(folder, split).read_bytes())["info"] == info
            and len(read_coco(folder, split).images) == count
            for split, count in counts.items()
        )
    except (DatasetError, OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise DatasetError(
            f"{folder} does not hold the whole demo set asked for: move it away or name another folder."
        )

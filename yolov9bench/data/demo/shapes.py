"""Images of six shapes on textured grounds, painted alike on every machine.

What makes them alike: the draws are PCG64's raw numbers, a stream that NumPy promises not to change (NEP 19),
and painting calculates with whole numbers alone, so that no library or processor rounds anything.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolov9bench.ops.images import Pixels

EMPTY_TURN, CROWD_TURN, TURNS = 2, 1, 16  # of every 16 images the second has a crowd, the third no object
MOST_OBJECTS = 8
TRIES = 20  # to find a place for an object
RADII = 9, 56  # half pixels: objects of about 8 to 64 pixels
CROWD_SIZES, CROWD_RADII = (12, 20), (8, 12)
LEAST_SHARE = 60  # per cent of an object's pixels that stay in sight
LEAST_SIDE = 8  # pixels, of the longer side of what stays in sight
COLOURS_TRIED = 4
GRAIN_CELLS = 1, 3, 9  # pixels
GROUND = -1

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Dice:
    """Whole numbers, evenly spread, from the stream that belongs to a key of whole numbers from 0 up."""

    def __init__(self, *key: int) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence(key))

    def numbers(self, low: int, high: int, *shape: int) -> Ints:
        """An array of numbers from `low` to `high`, both included."""
        raw = np.asarray(self._source.random_raw(math.prod(shape)), np.uint64)
        return (raw % np.uint64(high - low + 1)).astype(np.int64).reshape(shape) + low

    def number(self, low: int, high: int) -> int:
        """One number from `low` to `high`, both included."""
        return int(self.numbers(low, high))


@dataclass(frozen=True)
class Figure:
    """An object, or a crowd of objects of one label; `area` counts its pixels in and out of sight."""

    label: int
    crowd: bool
    area: int


@dataclass
class Scene:
    """Pixels uint8 [H, W, 3], the figures in the order of painting, and which one is seen where [H, W]."""

    pixels: Pixels
    owners: Ints  # index of a figure, or GROUND
    figures: list[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Pose:
    """How a shape lies in the plane: in half pixels, turned by an angle of rational sine and cosine."""

    x: int
    y: int
    radius: int
    sine: int  # over 4096 + turn**2, as is the cosine
    cosine: int
    scale: int
    squeeze: int  # twelfths: how much lower than wide the upright shape is


def _star(x: Ints, y: Ints, radius: int) -> Mask:
    """Inside at least four of the five lines of a pentagram, whose normals are in thousandths."""
    normals = (0, 1000), (951, 309), (588, -809), (-588, -809), (-951, 309)
    inside = [across * x + down * y <= 309 * radius for across, down in normals]
    return np.asarray(np.sum(inside, axis=0) >= 4)


# Which points (x, y), y downwards, lie in an upright shape that just about fills a circle of this radius.
SHAPES: dict[str, Callable[[Ints, Ints, int], Mask]] = {
    "disc": lambda x, y, radius: x * x + y * y <= radius * radius,
    "square": lambda x, y, radius: 5 * np.maximum(abs(x), abs(y)) <= 4 * radius,
    "triangle": lambda x, y, radius: (2 * y <= radius) & (7 * abs(x) <= 4 * (y + radius)),
    "star": _star,
    "ring": lambda x, y, radius: (
        (x * x + y * y <= radius * radius) & (3 * (x * x + y * y) >= radius * radius)
    ),
    "cross": lambda x, y, radius: (
        (10 * np.minimum(abs(x), abs(y)) <= 3 * radius) & (np.maximum(abs(x), abs(y)) <= radius)
    ),
}
NAMES = tuple(SHAPES)


def draw_scene(size: int, index: int, dice: Dice) -> Scene:
    """A ground with up to 8 objects, or a crowd beside them, or nothing; `size` pixels on the longer side."""
    short = size * dice.number(7, 16) // 16 - dice.number(0, 3)
    height, width = (size, short) if dice.number(0, 1) else (short, size)
    colour = dice.numbers(0, 255, 3)
    ground = _texture(dice, height, width, colour, colour + dice.numbers(-90, 90, 3))
    scene = Scene(ground, np.full((height, width), GROUND))
    if index % TURNS == EMPTY_TURN:
        return scene
    if index % TURNS == CROWD_TURN:
        _add_crowd(dice, scene)
    for _ in range(dice.number(1, MOST_OBJECTS)):
        _add_object(dice, scene)
    return scene


def _add_object(dice: Dice, scene: Scene) -> None:
    """Paint an object where enough of it and of the earlier ones stays in sight, if such a place is found."""
    height, width = scene.owners.shape
    label = dice.number(0, len(NAMES) - 1)
    for _ in range(TRIES):
        radius = dice.number(*RADII)
        pose = _pose(dice, radius, dice.number(0, 2 * width), dice.number(0, 2 * height))
        mask, area = _painted(label, pose, height, width)
        owners = np.where(mask, len(scene.figures), scene.owners)
        figures = [*scene.figures, Figure(label, False, area)]
        if all(_in_sight(owners == number, figure.area) for number, figure in enumerate(figures)):
            scene.owners, scene.figures = owners, figures
            _colour(dice, scene.pixels, mask)
            return


def _add_crowd(dice: Dice, scene: Scene) -> None:
    """Paint many small objects of one shape so close together that they count as one region."""
    height, width = scene.owners.shape
    label = dice.number(0, len(NAMES) - 1)
    # Half pixels: the region is half as wide and high as the scene.
    left, top = dice.number(0, width), dice.number(0, height)
    for _ in range(dice.number(*CROWD_SIZES)):
        radius = dice.number(*CROWD_RADII)
        pose = _pose(dice, radius, left + dice.number(0, width), top + dice.number(0, height))
        mask, _ = _painted(label, pose, height, width)
        if mask.any():
            scene.owners[mask] = 0
            _colour(dice, scene.pixels, mask)
    scene.figures.append(Figure(label, True, int((scene.owners == 0).sum())))


def _in_sight(mask: Mask, area: int) -> bool:
    """Whether enough of a figure is seen to know it by."""
    sides = (np.ptp(np.flatnonzero(mask.any(axis))) + 1 if mask.any() else 0 for axis in (0, 1))
    return bool(100 * mask.sum() >= LEAST_SHARE * area and max(sides) >= LEAST_SIDE)


def _pose(dice: Dice, radius: int, x: int, y: int) -> Pose:
    """Any angle, by the tangent of its half in 64ths, and up to a third of squeezing."""
    turn, side = dice.number(-64, 64), 2 * dice.number(0, 1) - 1
    sine, cosine = side * 128 * turn, side * (4096 - turn * turn)
    return Pose(x, y, radius, sine, cosine, 4096 + turn * turn, dice.number(8, 12))


def _painted(label: int, pose: Pose, height: int, width: int) -> tuple[Mask, int]:
    """Where in an image [H, W] a shape covers the pixels' centres; its area counts those beyond, too."""
    reach = pose.radius // 2 + 2
    left, top = pose.x // 2 - reach, pose.y // 2 - reach
    columns, rows = np.arange(left, left + 2 * reach + 1), np.arange(top, top + 2 * reach + 1)
    x, y = 2 * columns[None] + 1 - pose.x, 2 * rows[:, None] + 1 - pose.y
    across, down = pose.cosine * x + pose.sine * y, pose.cosine * y - pose.sine * x
    inside = SHAPES[NAMES[label]](pose.squeeze * across, 12 * down, pose.squeeze * pose.scale * pose.radius)
    mask = np.zeros((height, width), bool)
    shown_rows, shown_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    mask[np.ix_(rows[shown_rows], columns[shown_columns])] = inside[np.ix_(shown_rows, shown_columns)]
    return mask, int(inside.sum())


def _colour(dice: Dice, pixels: Pixels, mask: Mask) -> None:
    """Paint a mask over, in the one of a few colours that differs most from what lies there."""
    rows, columns = np.ix_(mask.any(axis=1), mask.any(axis=0))
    part, window = mask[rows, columns], pixels[rows, columns]
    colours = dice.numbers(0, 255, COLOURS_TRIED, 3)
    differences = abs(window[part].astype(np.int64) - colours[:, None]).sum(axis=2)
    tenths = np.sort(differences, axis=1)[:, part.sum() // 10]  # nine in ten of the pixels differ by more
    colour = colours[np.argmax(tenths)]
    height, width = part.shape
    texture = _texture(dice, height, width, colour, colour + dice.numbers(-60, 60, 3))
    pixels[rows, columns] = np.where(part[..., None], texture, window)


def _texture(dice: Dice, height: int, width: int, first: Ints, second: Ints) -> Pixels:
    """Two colours mixed by a pattern, and grain of three sizes over them: uint8 [H, W, 3]."""
    share = _pattern(dice, height, width)[..., None]
    grains = np.stack([_noise(dice, height, width, cell) - 128 for cell in GRAIN_CELLS])
    grain = grains.sum(axis=0) * dice.number(10, 50) // 255
    speckle = dice.numbers(-8, 8, height, width, 3)
    mixed = (first * (255 - share) + second * share) // 255 + grain[..., None] + speckle
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def _pattern(dice: Dice, height: int, width: int) -> Ints:
    """Clouds, a gradient, stripes or a chequer, in 0..255 [H, W]."""
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    kind, period = dice.number(0, 3), dice.number(5, 24)
    ramp = dice.number(-4, 4) * x + dice.number(1, 4) * y
    if kind == 0:
        return _noise(dice, height, width, period)
    if kind == 1:
        return np.asarray((ramp - ramp.min()) * 255 // max(np.ptp(ramp), 1))
    if kind == 2:
        return np.asarray(ramp // (2 * period) % 2 * 255)
    return np.asarray((x // period + y // period) % 2 * 255)


def _noise(dice: Dice, height: int, width: int, cell: int) -> Ints:
    """Random numbers 0..255 at the corners of cells of so many pixels, and linear between them: [H, W]."""
    corners = dice.numbers(0, 255, height // cell + 2, width // cell + 2)
    row, down = np.divmod(np.arange(height)[:, None], cell)
    column, across = np.divmod(np.arange(width), cell)
    upper = corners[row, column] * (cell - across) + corners[row, column + 1] * across
    lower = corners[row + 1, column] * (cell - across) + corners[row + 1, column + 1] * across
    return np.asarray((upper * (cell - down) + lower * down) // cell**2)

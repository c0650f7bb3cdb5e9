"""How many boxes the fullest image of a training batch has, by COCO's counts and a recipe's augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from yolov9bench.data.mosaic import CENTRE_RANGE
from yolov9bench.zoo.recipe import AugmentationSettings

# Boxes that are no crowds, and images, in COCO's instances_train2017.json.
COCO_BOXES, COCO_IMAGES = 849_949, 118_287
TILE = (1.0, 0.75)  # width and height of a mosaic's tile in sides of it: most of COCO's images are 640 x 480
COUNTS = 512  # the law of shown boxes ends here; more have a probability below 1e-8 in every recipe
STEPS = {"scale": 16, "centre": 6, "shift": 3}  # midpoints over each range that is drawn uniformly

Shares = NDArray[np.float64]


def fullest(images: int) -> int:
    """How many boxes the fullest of so many mosaics has: in half of all batches it has no more.

    A mosaic has all boxes of its four images, none cropped away. An image's number follows a geometric law
    of COCO's mean, so the sum of four a negative binomial one.
    """
    end = 1 / (1 + COCO_BOXES / COCO_IMAGES)
    boxes, share = 0, end**4
    while share**images < 0.5:
        boxes += 1
        share += math.comb(boxes + 3, 3) * end**4 * (1 - end) ** boxes
    return boxes


@cache
def fullest_shown(settings: AugmentationSettings, images: int) -> int:
    """As `fullest`, but of boxes that a recipe's mosaics show after the affine warp, mixup and copy-paste."""
    below = np.cumsum(shown_boxes(settings))
    return int(np.argmax(below**images >= 0.5))


def shown_boxes(settings: AugmentationSettings) -> Shares:
    """The probabilities that an image of the mosaic epochs has 0, 1, ... boxes.

    A tile's boxes are points, uniform within it, and one is shown where the warped frame has it: an image's
    geometric number, thinned to a share p, is geometric again, with p times the mean. Four tiles add up, and
    centre, scale and shift are averaged over their ranges. Copy-paste repeats each box with the recipe's
    share, as if all were admissible. Mixup joins two such images with the recipe's probability.

    Generating functions of these laws multiply and nest; they are taken at half of the roots of unity (the
    others are conjugate), from which a discrete Fourier transform gets the probabilities back.
    """
    z = np.exp(-2j * np.pi * np.arange(COUNTS // 2 + 1) / COUNTS)
    pasted = settings.copy_paste
    z = z * (1 - pasted + pasted * z)
    mosaics = [_mosaic_law(shares, z) for shares in _tile_shares(settings)]
    image = np.mean(mosaics, axis=0)
    image = settings.mosaic_prob * image + (1 - settings.mosaic_prob) * _thinned_law(np.ones(1), z)[0]
    image = (1 - settings.mixup_prob) * image + settings.mixup_prob * image**2
    return np.fft.irfft(image, COUNTS).clip(0)


def _mosaic_law(shares: Shares, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Shares [n, 4] of tiles that are shown -> the mean generating function of the sum of their boxes."""
    law = np.ones((len(shares), len(z)), np.complex128)
    for tile in shares.T:
        law *= _thinned_law(tile, z)
    return np.asarray(law.mean(axis=0))


def _thinned_law(shares: Shares, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Generating functions [n, z] of an image's number of boxes, each box kept with one of the shares [n]."""
    means = shares * COCO_BOXES / COCO_IMAGES
    return np.asarray(1 / (1 + means[:, None] * (1 - z)))


def _tile_shares(settings: AugmentationSettings) -> Iterator[Shares]:
    """For each scale: the shares [n, 4] of the tiles within the frame, over centres and shifts.

    Lengths are in sides of a tile; the canvas reaches from 0 to 2 and the frame from its middle half a side,
    divided by the scale, to both sides, less a shift. Both axes are drawn alike and independently.
    """
    centres = _midpoints(*CENTRE_RANGE, STEPS["centre"])
    shifts = _midpoints(-settings.translate, settings.translate, STEPS["shift"])
    drawn = np.array(list(product(centres, shifts)))
    for scale in _midpoints(*settings.scale_range, STEPS["scale"]):
        first = np.maximum(1 - (0.5 + drawn[:, 1]) / scale, 0)
        last = np.minimum(1 + (0.5 - drawn[:, 1]) / scale, 2)
        axes = [_axis_shares(drawn[:, 0], side, first, last) for side in TILE]
        # Horizontal draws by vertical ones by tiles: top left, top right, bottom left, bottom right.
        horizontal, vertical = axes
        yield (horizontal[:, None, None, :] * vertical[None, :, :, None]).reshape(-1, 4)


def _axis_shares(centres: Shares, side: float, first: Shares, last: Shares) -> Shares:
    """Of a tile before the centre and one behind it, [n, 2], the share between `first` and `last`."""
    starts = np.stack([centres - side, centres], axis=1)
    shown = np.minimum(starts + side, last[:, None]) - np.maximum(starts, first[:, None])
    return np.asarray(shown.clip(0) / side)


def _midpoints(low: float, high: float, count: int) -> Shares:
    """The middles of so many equal parts of a range."""
    return low + (high - low) * (np.arange(count) + 0.5) / count

"""One image as it is trained on: which steps of a Recipe it goes through, in which order."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator, SeedSequence, default_rng

from yolov9bench.data.mosaic import (
    apply_mixup,
    draw_copy_paste,
    draw_mixup,
    draw_mosaic,
    find_seen,
    lay_out,
    paint,
    paste_objects,
    paste_pixels,
    tile,
    tile_pixels,
)
from yolov9bench.data.tile_pool import TilePool
from yolov9bench.data.training_set import TrainingSet
from yolov9bench.data.transforms import (
    Sample,
    apply_affine,
    apply_flip,
    apply_hsv,
    apply_rare_filters,
    draw_affine,
    draw_flip,
    draw_hsv,
    draw_rare_filters,
    letterboxed,
    part_seen,
)
from yolov9bench.ops.images import Pixels
from yolov9bench.zoo.recipe import AugmentationSettings, Recipe


def training_sample(
    dataset: TrainingSet, index: int, recipe: Recipe, seed: int, epoch: int, pool: TilePool | None = None
) -> Sample:
    """Image `index` as it is seen in an epoch, counted from 0; chance depends on these numbers alone.

    pool: where tiles of mosaics of this recipe's size are kept for the next sample; it changes no sample.
    """
    settings = recipe.augmentation
    generator = default_rng(SeedSequence(seed, spawn_key=(epoch, index)))
    if epoch >= recipe.run.epochs - settings.close_mosaic or generator.random() >= settings.mosaic_prob:
        sample = letterboxed(
            dataset.load(index),
            settings.image_size,
            settings.closing_pad_bgr,
            settings.closing_shrinking,
        )
        sample = apply_affine(sample, draw_affine(generator, sample.shape, settings, closing=True))
    else:
        sample = _mosaic_sample(dataset, index, settings, generator, pool)
        mixup = draw_mixup(generator, len(dataset), settings)
        if mixup is not None:
            other = _mosaic_sample(dataset, mixup.other, settings, generator, pool)
            sample = apply_mixup(sample, other, mixup)
    sample = apply_rare_filters(sample, draw_rare_filters(generator, settings))
    sample = apply_hsv(sample, draw_hsv(generator, settings))
    return apply_flip(sample, draw_flip(generator, settings))


def _mosaic_sample(
    dataset: TrainingSet,
    index: int,
    settings: AugmentationSettings,
    generator: Generator,
    pool: TilePool | None,
) -> Sample:
    """All is drawn by the objects alone, so that only those images are decoded that come to be seen."""
    mosaic, size = draw_mosaic(generator, len(dataset), settings), settings.image_size
    numbers = (index, *mosaic.others)
    tiles = [tile(dataset.outline(number), size) for number in numbers]
    sample = lay_out(tiles, mosaic)
    copy_paste = draw_copy_paste(generator, sample, settings)
    affine = draw_affine(generator, sample.shape, settings, closing=False)
    outlines = [polygon for each in copy_paste.chosen if (polygon := sample.polygons[each]) is not None]

    seen = part_seen(affine, sample.shape)
    if outlines:  # what is pasted comes from the other side
        seen = seen.with_mirror(sample.shape[1])
    needed = find_seen([each.shape for each in tiles], mosaic, seen)
    pixels = [
        _tile_pixels(dataset, number, size, pool) if is_seen else None
        for number, is_seen in zip(numbers, needed, strict=True)
    ]
    canvas = paint(pixels, mosaic, seen)
    paste_pixels(canvas, outlines)
    return apply_affine(replace(paste_objects(sample, copy_paste), pixels=canvas), affine)


def _tile_pixels(dataset: TrainingSet, index: int, size: int, pool: TilePool | None) -> Pixels:
    kept = None if pool is None else pool.find(index)
    if kept is not None:
        return kept
    pixels = tile_pixels(dataset.pixels(index), size)
    if pool is not None:
        pool.keep(index, pixels)
    return pixels

"""Images in a grid with labelled boxes on them; no label lies on another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.plots.style import BLUE, SMALL, TINY, WIDTH

PIXELS_PER_INCH, MOST_INCHES = 100, 10  # of an image that is drawn alone


@dataclass(frozen=True)
class Look:
    """Colour and line style of a box."""

    colour: str
    linestyle: str


@dataclass(frozen=True)
class Mark:
    """A box to draw, [x, y, width, height] in pixels; its label may be empty."""

    box: Sequence[float]
    label: str
    look: Look


@dataclass(frozen=True)
class AnnotatedImage:
    """An image, its title and the boxes to draw on it."""

    image: CocoImage
    title: str
    marks: tuple[Mark, ...]


def draw_annotated_images(
    dataset: CocoDataset, panels: Sequence[AnnotatedImage], columns: int, key: Mapping[str, Look]
) -> Figure:
    """Draw the images row by row, each row as high as its highest image, at most a square; then the key."""
    if not panels:
        figure = Figure(figsize=(WIDTH, 0.5))
        figure.text(0.5, 0.5, "There is no image to show.", ha="center", va="center")
        return figure
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(min(panel.image.height / panel.image.width, 1.0) for panel in row) for row in rows]
    titles = 0.3 * (len(rows) + bool(key))  # inches
    figure = Figure(figsize=(WIDTH, sum(heights) * WIDTH / columns + titles), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights).flatten().tolist()
    for axes in grid:
        axes.set_axis_off()  # the last row may not be full
    for axes, panel in zip(grid, panels, strict=False):
        _draw_image(axes, read_image(dataset.image_path(panel.image)), panel)
    if key:
        handles = [_outline((0, 0, 1, 1), look, label=meaning) for meaning, look in key.items()]
        style: dict[str, Any] = {"ncols": len(key), "frameon": False, "fontsize": SMALL}
        figure.legend(handles=handles, loc="outside lower center", **style)
    figure.draw_without_rendering()  # lays the axes out: only then does a label have a size on its image
    for axes, panel in zip(grid, panels, strict=False):
        _write_labels(axes, panel.marks)
    return figure


def draw_image(pixels: Pixels, marks: Sequence[Mark]) -> Figure:
    """One image [H, W, 3], BGR, with its marks and nothing else, pixel by pixel, at least 3 inches wide.

    A large image has more pixels to the inch instead of more inches, so that its labels grow with it and can
    be read when the whole is seen on a screen.
    """
    height, width = pixels.shape[:2]
    pixels_per_inch = max(PIXELS_PER_INCH, max(height, width) / MOST_INCHES)
    scale = max(1.0, 3 * pixels_per_inch / width)
    size = (scale * width / pixels_per_inch, scale * height / pixels_per_inch)
    figure = Figure(figsize=size, dpi=pixels_per_inch)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw_image(axes, pixels, AnnotatedImage(CocoImage(0, "", width, height), "", tuple(marks)))
    figure.draw_without_rendering()
    _write_labels(axes, marks)
    return figure


def _draw_image(axes: Axes, pixels: Pixels, panel: AnnotatedImage) -> None:
    height, width = pixels.shape[:2]
    # COCO counts from the first pixel's corner, imshow from its middle; the pixels are BGR.
    axes.imshow(pixels[..., ::-1], extent=(0, width, height, 0))
    axes.set_anchor("N")
    axes.set_title(panel.title, fontsize=SMALL, parse_math=False)
    for mark in panel.marks:
        axes.add_patch(_outline(mark.box, mark.look))


def _outline(box: Sequence[float], look: Look, label: str = "") -> Rectangle:
    """A box with a dark rim, to be seen on bright images and dark ones."""
    x, y, width, height = box
    outline = Rectangle((x, y), width, height, fill=False, linestyle=look.linestyle, label=label)
    outline.set(edgecolor=look.colour, linewidth=1.4)
    outline.set_path_effects([withStroke(linewidth=2.4, foreground="black", alpha=0.6)])
    return outline


def _write_labels(axes: Axes, marks: Iterable[Mark]) -> None:
    """Write each label at a corner of its box where it lies on the image and not on an earlier label."""
    taken: list[Bbox] = []
    for mark in marks:
        if not mark.label:
            continue
        ink = "white" if mark.look.colour == BLUE else "black"  # the other colours are bright
        text = axes.text(0, 0, mark.label, fontsize=TINY, color=ink, va="bottom", parse_math=False)
        text.set_bbox({"facecolor": mark.look.colour, "alpha": 0.85, "linewidth": 0, "pad": 1})
        text.set_in_layout(False)
        size = text.get_window_extent().padded(2)
        box = Bbox.from_bounds(*mark.box).transformed(axes.transData)
        free = (place for place in _corners(box, size.width, size.height) if _is_free(axes, place, taken))
        place = next(free, None)
        if place is None:
            text.remove()
        else:
            x, y = axes.transData.inverted().transform(place.padded(-2).min)
            text.set_position((x, y))
            taken.append(place)


def _is_free(axes: Axes, place: Bbox, taken: Iterable[Bbox]) -> bool:
    """Whether a place lies on the image and off all that are taken."""
    inside = all(map(axes.bbox.contains, place.intervalx, place.intervaly))
    return inside and not any(map(place.overlaps, taken))


def _corners(box: Bbox, width: float, height: float) -> Iterator[Bbox]:
    """The places of a label at a box, best first: inside, but outside a small box, which it would hide."""
    small = box.ymax - box.ymin < 3 * height
    for y in (box.ymax, box.ymin - height) if small else (box.ymax - height, box.ymin):
        for x in (box.xmin, box.xmax - width):
            yield Bbox.from_bounds(x, y, width, height)

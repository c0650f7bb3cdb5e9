"""The one style of all figures: palette, sizes of text in points, width in inches, grid and spines."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

# The eight colours of Okabe and Ito, less black; as printed in Wong, Nature Methods 8, 441 (2011).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
ORANGE, SKY, GREEN, YELLOW, VERMILION, PURPLE, BLUE = PALETTE
WIDTH = 8.0  # inches, of a notebook's figures
HEADING, SMALL, TINY = 10, 8, 6.8  # points


def style_axes(axes: Axes, grid: Literal["x", "both"] = "both") -> None:
    """Draw a pale grid behind the data, and no spines on the top and right."""
    axes.grid(axis=grid, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

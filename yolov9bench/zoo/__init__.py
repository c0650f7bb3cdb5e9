"""Facts about the networks: architectures, training recipes and published rows; nothing here computes."""

from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import RECIPES
from yolov9bench.zoo.rows import ROWS, Asset, Published, Row, find_row
from yolov9bench.zoo.specs import PARAMETERS, SPECS, Spec

__all__ = [
    "PARAMETERS",
    "RECIPES",
    "ROWS",
    "SPECS",
    "Asset",
    "Published",
    "Recipe",
    "Row",
    "Spec",
    "find_row",
]

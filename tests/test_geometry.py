"""Boxes and grid points, by hand and against a plain computation of each cell."""

from itertools import product

import pytest
import torch

from yolov9bench.ops.boxes import boxes_to_distances
from yolov9bench.predict.postprocess import distances_to_boxes, make_anchor_points


def test_points_are_the_middles_of_cells_row_by_row() -> None:
    points, strides = make_anchor_points([(2, 3), (1, 2)], [8, 16], like=torch.zeros((), dtype=torch.float64))
    expected = [(x + 0.5, y + 0.5) for y, x in product(range(2), range(3))]
    expected += [(0.5, 0.5), (1.5, 0.5)]
    assert points.tolist() == [list(point) for point in expected]
    assert strides.tolist() == [[8.0]] * 6 + [[16.0]] * 2
    assert points.dtype == strides.dtype == torch.float64


def test_levels_and_strides_must_agree() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_anchor_points([(2, 3), (1, 2)], [8], like=torch.zeros(()))


def test_distances_reach_from_a_point_to_its_box() -> None:
    points = torch.tensor([[2.5, 3.5], [0.5, 0.5]])
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 0.0, -0.25]])
    boxes = torch.tensor([[1.5, 1.5, 5.5, 7.5], [0.0, 0.5, 0.5, 0.25]])
    assert torch.equal(distances_to_boxes(points, distances), boxes)
    assert torch.equal(boxes_to_distances(points, boxes), distances)
    together = distances_to_boxes(points, torch.stack([distances, 2 * distances]))
    assert together.shape == (2, 2, 4)
    assert torch.equal(together[0], boxes)

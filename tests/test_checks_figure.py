"""The figure of what was measured on part of the images: its data by hand, its marks as drawn."""

from dataclasses import replace
from typing import Any

import numpy as np
from record_parts import EMPTY

from yolov9bench.plots.checks import plot_checks
from yolov9bench.plots.figure_data import gather_checks
from yolov9bench.records.evidence import Check


def check(row: str | None, protocol: dict[str, Any], **values: Any) -> Check:
    record = replace(
        EMPTY, row=row, values=values, settings={"protocol": protocol}, inputs={"images": 100, "demo": False}
    )
    return Check(record, ("100 images of 5,000",))


SUBSETS = [
    check("ultralytics-yolov8n", {"name": "ultralytics"}, AP=0.391, AP_interval=[0.34, 0.45]),
    check("ultralytics-yolov8n", {"name": "mmyolo+tta"}, AP=0.4254, AP_interval=[0.37, 0.48]),
    check("yolov8-n-mask-refine", {"name": "mmyolo+tta"}, AP=0.4, AP_interval=[0.35, 0.45]),
    check("yolov9-c", {"name": "yolov9"}, AP=0.5, AP_interval=None),
    check(None, {"name": "yolov9"}, AP=0.5, AP_interval=[0.4, 0.6]),
]


def test_it_has_rows_with_an_interval_and_what_is_published_for_their_column() -> None:
    found = gather_checks(SUBSETS)["measurements"]
    assert [(each["row"], each["protocol"], each["published"]) for each in found] == [
        ("ultralytics-yolov8n", "ultralytics", 37.3),
        ("ultralytics-yolov8n", "mmyolo+tta", None),  # nobody published it
        ("yolov8-n-mask-refine", "mmyolo+tta", 39.9),
    ]
    assert [(each["ap"], each["low"], each["high"], each["images"]) for each in found] == [
        (39.1, 34.0, 45.0, 100),
        (42.54, 37.0, 48.0, 100),
        (40.0, 35.0, 45.0, 100),
    ]


def test_every_measurement_is_drawn_on_a_line_of_its_own() -> None:
    (axes,) = plot_checks(gather_checks(SUBSETS)).axes
    points = [(line.get_marker(), *np.ravel(line.get_xydata())) for line in axes.lines]
    assert [point for point in points if point[0] == "o" and len(point) == 3] == [
        ("o", 39.1, 0),
        ("o", 42.54, 1),
        ("o", 40.0, 2),
    ]
    assert [point for point in points if point[0] == "D" and len(point) == 3] == [
        ("D", 37.3, 0),
        ("D", 39.9, 2),
    ]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[1] == "ultralytics-yolov8n, mmyolo+tta, 100 images"


def test_without_measurements_the_figure_says_so() -> None:
    figure = plot_checks(gather_checks([]))
    assert not figure.axes
    assert [text.get_text() for text in figure.texts] == ["no measurement yet"]

"""The figures of the report: what they show, and that every word and mark in them can be read."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from report_records import evaluation, measurement

from yolov9bench.nn.backbone import level_widths
from yolov9bench.nn.pyramid import pyramid_widths
from yolov9bench.plots import figure_data, performance, structure
from yolov9bench.plots.diagrams import lay_out
from yolov9bench.records import Record
from yolov9bench.records.evidence import evidence
from yolov9bench.zoo import ROWS, SPECS
from yolov9bench.zoo.paper_points import SERIES

OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#000000"}


def test_the_papers_series_have_every_published_point(shared: Path) -> None:
    facts = json.loads((shared / "facts/mmyolo/performance_points.json").read_text(encoding="utf-8"))
    printed = {
        (row["series"].removesuffix(" (Ours)"), row["params_M"], row["flops_G"], row["AP"])
        for row in facts["rows"]
        if row["name"] != "GELAN-C ELAN1 CSP1"  # which the paper's figure leaves out
    }
    ours = {
        (series.name.removesuffix(" v3.0").removesuffix(" r7.0"), point.parameters_m, point.gflops, point.ap)
        for series in SERIES
        for line in series.lines
        for point in line
    }
    assert ours == printed
    assert [len(series.lines) for series in SERIES if series.name in ("YOLOv7", "RT DETR")] == [2, 2]
    assert len(SERIES) == 12


@pytest.mark.parametrize("name", figure_data.DRAWN_SPECS)
def test_a_skeleton_has_the_channels_of_the_network(name: str) -> None:
    spec = SPECS[name]
    boxes = lay_out(spec).boxes
    channels = {
        key: int(box.text.split("\n")[1].split()[0]) for key, box in boxes.items() if key[0] not in "hy"
    }
    assert tuple(channels[f"b{level}"] for level in range(5)) == level_widths(spec)
    assert tuple(channels[key] for key in ("t2", "u3", "u4")) == pyramid_widths(spec, bottom_up=True)
    if spec.aux == "pyramid":
        assert tuple(channels[f"x{level}"] for level in (2, 3, 4)) == pyramid_widths(spec, bottom_up=False)


@pytest.mark.parametrize(
    ("name", "links"), [("yolov8-s", 0), ("yolov9-s", 0), ("yolov9-c", 6), ("yolov9-e", 15)]
)
def test_a_reversible_backbone_is_fed_at_its_level_and_finer_ones(name: str, links: int) -> None:
    across = lay_out(SPECS[name]).across
    assert len(across) == len(set(across)) == links
    assert all(int(start[1]) >= int(end[1]) for start, end in across)


def everything_measured() -> list[Record]:
    """A made-up record of AP and one of memory for every row, so that no mark is missing."""
    found = []
    for row in ROWS.values():
        ap = ((row.published.box_ap or 50.0) - 0.2) / 100
        if row.download.sha256 or row.download.sha256_prefix:
            found.append(evaluation(row.id, ap))
        found.append(measurement(row.id))
    return found


@pytest.fixture(scope="module", params=["published", "measured"])
def drawn(request: pytest.FixtureRequest) -> dict[str, Figure]:
    """Every figure, of no record and of many."""
    found = evidence(everything_measured() if request.param == "measured" else [])
    figures = {
        "performance": performance.plot_performance(figure_data.gather_performance(found)),
        "memory": performance.plot_memory(figure_data.gather_memory(found)),
        "structures": structure.plot_structures(figure_data.gather_structures(found)),
    }
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def words(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every text that is drawn, and its place in pixels; ticks beyond the limits exist, but are not drawn."""
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text not in beyond and text.get_visible() and text.get_text().strip():
            yield text.get_text(), text.get_window_extent()


@pytest.mark.parametrize("name", ["performance", "memory", "structures"])
class TestFigures:
    def test_no_word_lies_on_another_or_beyond_the_edge(self, drawn: dict[str, Figure], name: str) -> None:
        figure = drawn[name]
        placed = list(words(figure))
        assert len(placed) > 20
        for (one, here), (other, there) in combinations(placed, 2):
            assert not here.padded(-1).overlaps(there.padded(-1)), (one, other)
        for one, place in placed:
            assert all(figure.bbox.padded(1).contains(*corner) for corner in (place.min, place.max)), one

    def test_every_axis_is_named(self, drawn: dict[str, Figure], name: str) -> None:
        first = drawn[name].axes[0]
        for axes in drawn[name].axes:
            assert axes.get_ylabel() or axes.get_shared_y_axes().joined(first, axes)
            assert axes.get_xlabel() or name == "structures"  # whose columns have headings of their own
            units = {"performance": ("(millions)", "(GFLOPs)"), "memory": ("GiB",), "structures": ("",)}[name]
            assert any(unit in axes.get_xlabel() for unit in units)


@pytest.mark.parametrize("name", ["performance", "memory"])
def test_at_700_pixels_words_can_be_read_and_the_figure_fits_a_screen(
    drawn: dict[str, Figure], name: str
) -> None:
    figure = drawn[name]
    pixels = 700 / figure.get_figwidth()  # to an inch
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().strip()]
    sizes = [float(text.get_fontsize()) for text in texts]
    assert min(sizes) / 72 * pixels > 9
    assert figure.get_figheight() * pixels < (600 if name == "performance" else 1000)


def marker_boxes(axes: Axes) -> Iterator[Bbox]:
    """The square that each marker fills, in pixels."""
    point = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    for line in axes.lines:
        width = line.get_markersize() * point
        for x, y in axes.transData.transform(line.get_xydata()):
            yield Bbox.from_bounds(x - width / 2, y - width / 2, width, width)


def named_points(axes: Axes) -> list[Annotation]:
    """The names and letters; the lines that tie some to their points have no text."""
    return [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]


def test_names_and_size_letters_lie_apart_on_the_axes_and_hide_no_marker(drawn: dict[str, Figure]) -> None:
    for axes in drawn["performance"].axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in named_points(axes)]
        letters = [*"nsmlx", *"tsmce"]  # of YOLOv8 and YOLOv9
        papers = [series.name for series in SERIES] + letters
        assert set(papers) <= {text for text, _ in boxes}
        assert [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b)] == []
        inside = [axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for _, box in boxes]
        assert all(inside), boxes
        markers = list(marker_boxes(axes))
        assert len(markers) > 80
        assert [text for text, box in boxes if any(map(box.overlaps, markers))] == []


def test_each_of_our_lines_is_named_at_its_end_in_its_colour(drawn: dict[str, Figure]) -> None:
    for axes in drawn["performance"].axes:
        ends: dict[str, set[tuple[float, float]]] = {}
        for line in axes.lines:
            if line.get_markerfacecolor() == "white" or line.get_linestyle() == "--":
                xy = [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
                ends.setdefault(to_hex(line.get_color()), set()).update(xy[-1:])
        named = {to_hex(text.get_color()): text for text in named_points(axes) if len(text.get_text()) > 1}
        looks = {to_hex(colour): name for name, (colour, _) in performance.LOOKS.items()}
        shown = {colour: places for colour, places in ends.items() if colour in looks and places}
        assert len(shown) in (4, 6)  # without and with the rows of Ultralytics
        for colour, places in shown.items():
            assert named[colour].get_text().replace("\n", " ") == looks[colour]
            assert named[colour].xy in places


def test_every_published_line_has_a_look_of_its_own() -> None:
    axes = performance.plot_performance(figure_data.gather_performance(evidence([]))).axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.8 and np.size(line.get_xdata())]
    lines = [line for series in SERIES for line in series.lines]
    assert len(thin) == len(lines) == 14
    looks = {(str(line.get_color()), str(line.get_marker())) for line in thin}
    assert len(looks) == len({marker for _, marker in looks}) == len(SERIES)


def test_memory_shows_every_prediction_and_says_what_has_none() -> None:
    found = evidence([measurement("yolov9-m", allocated_bytes=None), measurement("gelan-c", device="cpu")])
    data = figure_data.gather_memory(found)
    (axes,) = performance.plot_memory(data).axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    (predicted,) = [line for line in axes.lines if line.get_label() == "predicted"]
    assert [rows[int(place)] for place in np.asarray(predicted.get_ydata())] == ["yolov9-m", "gelan-c"]
    assert "ultralytics-yolov8n to ultralytics-yolov9e (10 rows)" in axes.get_xlabel()
    assert "no record has it: 15 rows" in axes.get_xlabel()
    assert {line.get_label() for line in axes.lines} == {"published", "predicted"}


def test_arrows_between_backbones_do_not_cross(drawn: dict[str, Figure]) -> None:
    """Each leads along its level, or up the one line between the backbones to the next finer level."""
    for axes, name in zip(drawn["structures"].axes, figure_data.DRAWN_SPECS, strict=True):
        arrows = [text for text in axes.texts if isinstance(text, Annotation) and not text.get_text()]
        across = [
            (arrow.xyann, arrow.xy)
            for arrow in arrows
            if arrow.arrowprops and arrow.arrowprops["color"] == structure.ACROSS
        ]
        along = [1 for start, end in across if start[1] == end[1]]
        up = [start for start, end in across if start[0] == end[0] and end[1] == start[1] - 1]
        levels = {"yolov9-c": 3, "yolov9-e": 5}.get(name, 0)
        assert (len(along), len(up), len(across)) == (levels, max(levels - 1, 0), max(2 * levels - 1, 0))
        assert len({x for x, _ in up}) <= 1


def test_a_size_letter_belongs_to_the_point_of_its_row(drawn: dict[str, Figure]) -> None:
    points = {
        "n": ((3.2, 37.2), (8.7, 37.2)),  # parameters in millions or GFLOPs, and AP, as mmyolo publishes them
        "x": ((68.2, 52.7), (257.8, 52.7)),
        "t": ((2.0, 38.3), (7.7, 38.3)),
        "e": ((57.3, 55.6), (189.0, 55.6)),
    }
    for number, axes in enumerate(drawn["performance"].axes):
        named = {(text.get_text(), text.xy) for text in named_points(axes)}
        assert {(letter, point[number]) for letter, point in points.items()} <= named


def test_texts_of_the_structures_fit_their_boxes(drawn: dict[str, Figure]) -> None:
    for axes in drawn["structures"].axes:
        boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, Rectangle)]
        inside = [text.get_window_extent() for text in axes.texts if "\n" in text.get_text()]
        fitting = [
            any(box.contains(*text.min) and box.contains(*text.max) for box in boxes) for text in inside
        ]
        assert len(boxes) >= 12 and fitting.count(False) <= 1  # the heading "second backbone"


def test_lines_are_told_apart_without_colour_too() -> None:
    colours, markers = zip(*performance.LOOKS.values(), strict=True)
    assert {to_hex(colour) for colour in colours} <= OKABE_ITO
    assert len(set(colours)) == len(set(markers)) == len(performance.LOOKS)


def test_a_published_point_is_hollow_and_a_measured_one_full() -> None:
    figure = performance.plot_performance(figure_data.gather_performance(evidence([evaluation()])))
    colour = performance.LOOKS["YOLOv9 (official)"][0]
    fillings = {
        line.get_markerfacecolor(): np.size(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_color() == colour and np.size(line.get_xdata())
    }
    assert fillings == {"white": 5, colour: 1}

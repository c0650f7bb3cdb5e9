"""The figures as files: SVG and PNG with the hash of their data inside, and a list of the files' hashes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from yolov9bench.io.files import atomic_path, sha256_of, write_text
from yolov9bench.plots.figure_data import (
    FigureData,
    data_sha256,
    gather_checks,
    gather_memory,
    gather_performance,
    gather_structures,
)
from yolov9bench.records import Record
from yolov9bench.records.comparison import Comparison
from yolov9bench.records.evidence import Check, Evidence

NAMES = ("checks", "memory", "performance", "structures")
SUFFIXES = (".svg", ".png")
SUMS = "SHA256SUMS"  # as sha256sum writes and checks it
DATA_HASH = "sha256 of the plotted data: "
DATA_HASH_PATTERN = re.compile(DATA_HASH.encode() + rb"([0-9a-f]{64})")
PNG_DPI = 120


def write_figures(
    folder: Path,
    evidence: Mapping[str, Evidence],
    checks: Sequence[Check],
    own: Sequence[Record] = (),
    compared: Sequence[Comparison] = (),
) -> None:
    """Draw every figure into `folder`, as SVG and PNG, with the list of their hashes."""
    import matplotlib
    from matplotlib import style

    from yolov9bench.plots import checks as checks_plot
    from yolov9bench.plots import performance, structure

    plots = {
        "checks": checks_plot.plot_checks,
        "performance": performance.plot_performance,
        "memory": performance.plot_memory,
        "structures": structure.plot_structures,
    }
    with style.context("default"), matplotlib.rc_context({"svg.hashsalt": "yolov9bench"}):
        for name, data in _gather(evidence, checks, own, compared).items():
            figure = plots[name](data)
            description = DATA_HASH + data_sha256(data)
            with atomic_path(folder / f"{name}.svg") as fresh:
                figure.savefig(fresh, metadata={"Date": None, "Description": description})
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=PNG_DPI)
            _write_png(folder / f"{name}.png", drawn, description)
    write_text(folder / SUMS, _sums(folder))


def find_faulty_figures(
    folder: Path,
    evidence: Mapping[str, Evidence],
    checks: Sequence[Check],
    own: Sequence[Record] = (),
    compared: Sequence[Comparison] = (),
) -> list[Path]:
    """The figures that are missing, that show other data than the records hold, or that were edited.

    They are not redrawn and compared, since other versions of matplotlib write other bytes.
    """
    sums = folder / SUMS
    listed = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    faulty = []
    for name, data in _gather(evidence, checks, own, compared).items():
        for path in (folder / (name + suffix) for suffix in SUFFIXES):
            shown = DATA_HASH_PATTERN.search(path.read_bytes()) if path.is_file() else None
            current = shown is not None and shown[1].decode() == data_sha256(data)
            if not current or _sum_line(path) not in listed:
                faulty.append(path)
    return faulty


def _gather(
    evidence: Mapping[str, Evidence],
    checks: Sequence[Check],
    own: Sequence[Record],
    compared: Sequence[Comparison],
) -> dict[str, FigureData]:
    data = (
        gather_checks(checks, compared),
        gather_memory(evidence),
        gather_performance(evidence, own),
        gather_structures(evidence),
    )
    return dict(zip(NAMES, data, strict=True))


def _write_png(path: Path, drawn: io.BytesIO, description: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_text("Description", description)
    opaque = Image.open(drawn).convert("RGB")  # no palette, which would change the colours of thin lines
    with atomic_path(path) as fresh:
        opaque.save(fresh, optimize=True, pnginfo=information)


def _sums(folder: Path) -> str:
    names = sorted(name + suffix for name in NAMES for suffix in SUFFIXES)
    return "".join(f"{_sum_line(folder / name)}\n" for name in names)


def _sum_line(path: Path) -> str:
    return f"{sha256_of(path)}  {path.name}"

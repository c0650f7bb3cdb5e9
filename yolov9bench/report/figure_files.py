"""The figures as files: SVG and PNG that carry the hash of what they show, and a list of their own hashes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

from yolov9bench.io.files import atomic_path, sha256_of, write_text
from yolov9bench.plots import plotted as data
from yolov9bench.plots.plotted import Plotted
from yolov9bench.records.evidence import Evidence

PLOTTED = {"performance": data.performance, "memory": data.memory, "structures": data.structures}
SUFFIXES = (".svg", ".png")
SUMS = "SHA256SUMS"  # as sha256sum writes and checks it
MARK = "sha256 of the plotted data: "
MARKED = re.compile(MARK.encode() + rb"([0-9a-f]{64})")
PNG_DPI = 120
PNG_COLOURS = 128  # a palette makes the files a third as large


def write_figures(folder: Path, evidence: Mapping[str, Evidence]) -> None:
    """Draw every figure into `folder`, as SVG and PNG, with the list of their hashes."""
    import matplotlib
    from matplotlib import style

    from yolov9bench.plots import performance, structure

    drawings = {
        "performance": performance.performance,
        "memory": performance.memory,
        "structures": structure.structures,
    }
    with style.context("default"), matplotlib.rc_context({"svg.hashsalt": "yolov9bench"}):
        for name, plotted in _plotted(evidence).items():
            figure = drawings[name](plotted)
            mark = MARK + data.sha256_of(plotted)
            with atomic_path(folder / f"{name}.svg") as fresh:
                figure.savefig(fresh, metadata={"Date": None, "Description": mark})
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=PNG_DPI)
            _write_png(folder / f"{name}.png", drawn, mark)
    write_text(folder / SUMS, _sums(folder))


def faulty_figures(folder: Path, evidence: Mapping[str, Evidence]) -> list[Path]:
    """The figures that are missing, that show other data than the records hold, or that were changed.

    Drawing them anew would not tell: other versions of the drawing library give other bytes.
    """
    listed = folder / SUMS
    sums = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    known = {name: digest for digest, name in (line.split() for line in sums.splitlines() if line.strip())}
    faulty = []
    for name, plotted in _plotted(evidence).items():
        for path in (folder / (name + suffix) for suffix in SUFFIXES):
            shown = MARKED.search(path.read_bytes()) if path.is_file() else None
            current = shown is not None and shown[1].decode() == data.sha256_of(plotted)
            if not current or known.get(path.name) != sha256_of(path):
                faulty.append(path)
    return faulty


def _plotted(evidence: Mapping[str, Evidence]) -> dict[str, Plotted]:
    return {name: gathered(evidence) for name, gathered in PLOTTED.items()}


def _write_png(path: Path, drawn: io.BytesIO, mark: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_text("Description", mark)
    palette = Image.open(drawn).convert("RGB").quantize(PNG_COLOURS)
    with atomic_path(path) as fresh:
        palette.save(fresh, optimize=True, pnginfo=information)


def _sums(folder: Path) -> str:
    names = sorted(name + suffix for name in PLOTTED for suffix in SUFFIXES)
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names)

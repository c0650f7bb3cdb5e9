"""The page that shows how near this code comes to the references, and its few lines for the README."""

from __future__ import annotations

from collections.abc import Sequence

from yolov9bench.records.parity import PARTS, TITLES, Comparison, Parity, Part, Reference
from yolov9bench.report.table import ABSENT, markdown_table

GENERATED = (
    "<!-- Written by `python -m yolov9bench report` from results/parity.json, which `make parity` writes: "
    "change code or tests, not this. -->\n"
)
TOP = f"""# Parity with the references

{GENERATED}
Recorded output of four reference implementations beside what this code makes of the same input: the same
weights, images and targets. Every line is held by a test, which fails beyond the tolerance, and is written
only if all of them passed. A difference is the largest of all values and cases; *relative* ones are in parts
of the reference's value. A tolerance of 0 asks for equality. Networks run in float64 here; beside a
reference's float32 most of the difference is its own rounding.
"""
NO_GOLDEN = "no golden"
NOTE = (
    "The largest difference in each part; AP, in points of 100, is of real weights on 100 images of val2017. "
    f"{ABSENT}: {NO_GOLDEN} of it was recorded."
)
HEADER = ("Part", "Quantity", "Largest difference", "Tolerance", "Unit", "Values", "Test")
# The unit in which a part is told in one figure.
HEADLINES: dict[Part, str] = {
    "network outputs": "px",
    "losses": "relative",
    "assignments": "anchors",
    "augmentations": "px",
    "pre-processing": "grey levels",
    "post-processing": "px",
    "AP": "AP points",
    "TTA AP": "AP points",
}
LIBRARIES = ("python", "torch", "numpy", "opencv")


def render_page(parity: Parity) -> str:
    """The whole page as Markdown: what ran, the summary, and a table for each reference."""
    sections = [_section(reference, parity.comparisons) for reference in TITLES]
    return "\n".join([TOP, _origin(parity), "", render_summary(parity), *sections])


def render_summary(parity: Parity) -> str:
    """One line for each reference with the largest difference of each part, as a Markdown table."""
    rows = [
        (title, *(_headline(parity.comparisons, reference, part) for part in PARTS))
        for reference, title in TITLES.items()
    ]
    return "\n".join([markdown_table(("Reference", *PARTS), rows), "", NOTE, ""])


def shown(value: float) -> str:
    """Two digits, as in 0, 1, 0.00031 and 4.2e-7."""
    mantissa, e, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _origin(parity: Parity) -> str:
    """Which code was compared, when and with which libraries, in a sentence."""
    environment = parity.environment
    versions = environment.versions or {}
    libraries = ", ".join(f"{name} {versions.get(name)}" for name in LIBRARIES)
    changes = " with uncommitted changes" if environment.dirty else ""
    return (
        f"Compared on {parity.start[:10]} at commit {environment.commit or 'unknown'}{changes}, "
        f"on {environment.device}, with {libraries}."
    )


def _section(reference: Reference, comparisons: Sequence[Comparison]) -> str:
    rows: list[Sequence[str]] = []
    for part in PARTS:
        found = [one for one in comparisons if (one.reference, one.part) == (reference, part)]
        rows += [_cells(one) for one in found] or [(part, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, NO_GOLDEN)]
    return "\n".join([f"## {TITLES[reference]}", "", markdown_table(HEADER, rows), ""])


def _cells(one: Comparison) -> tuple[str, ...]:
    file, _, test = one.test.partition("::")
    return (
        one.part,
        one.quantity,
        shown(one.difference),
        shown(one.tolerance),
        one.unit,
        f"{one.count:,}",
        f"[{test}](../{file})",
    )


def _headline(comparisons: Sequence[Comparison], reference: Reference, part: Part) -> str:
    unit = HEADLINES[part]
    found = [
        one.difference
        for one in comparisons
        if (one.reference, one.part, one.unit) == (reference, part, unit)
    ]
    return f"{shown(max(found))} {unit}" if found else ABSENT

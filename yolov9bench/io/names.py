"""Names of files and folders that every system can have, so that results can go from one to another."""

from __future__ import annotations

import re

# Of devices on Windows, with any suffix and in any case.
RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE | re.DOTALL
)
REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')  # on Windows; no text at the end, on macOS
LONGEST = 200  # bytes of a stem; of a name most systems take 255, some of which a file has before its own


def name_fault(name: str) -> str | None:
    """Why a name cannot be one of a file or folder on every system; None if it can."""
    if not name or name in (".", ".."):
        return "no name of a file"
    if RESERVED.fullmatch(name):
        return "the name of a device on Windows"
    if name[-1] in ". ":
        return "with a dot or a space at its end, which Windows leaves out"
    found = REFUSED.search(name)
    return None if found is None else f"with {found[0]!r} in it, which not every system allows"


def portable_name(stem: str, suffix: str) -> str:
    """A file's name from a stem that may be none on another system.

    What is refused becomes an underscore, and of a long stem the beginning is taken.
    """
    short = REFUSED.sub("_", stem).encode()[:LONGEST].decode(errors="ignore")
    name = short.rstrip(". ") + suffix
    return name if name_fault(name) is None else f"_{name}"

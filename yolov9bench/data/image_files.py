"""The files that an annotation file names, where there is one sensible reading of the name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*")  # scheme and host
DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")


def find_roots(root: Path, folder: Path) -> tuple[Path, ...]:
    """Where images are read: the data set's folder, that of its images if named, and what they link to.

    A link's target is read through the link anyway; so a name may state it in full.
    """
    named = [root] if folder.is_relative_to(root) else [root, folder]
    targets = [place.resolve() for place in (root, folder)]
    return (*named, *dict.fromkeys(place for place in targets if not _is_below(named, place)))


def find_image_files(
    roots: Sequence[Path], folder: Path, names: Iterable[str]
) -> tuple[dict[str, Path], list[str]]:
    """By name the place of every image that is not simply `folder`/name; the names for which there is none.

    Names that would be one file by another reading than their own are not read so: none is known then.
    """
    moved: dict[str, Path] = {}
    missing: list[str] = []
    for name in dict.fromkeys(names):
        if is_plain(name) and _is_file(folder / name):
            continue
        place = find_image_file(roots, folder, name)
        if place is None:
            missing.append(name)
        else:
            moved[name] = place
    sharing = defaultdict(list)
    for name, place in moved.items():
        sharing[place].append(name)
    known = {same[0]: place for place, same in sharing.items() if len(same) == 1}
    return known, [*missing, *(name for name in moved if name not in known)]


def find_image_file(roots: Sequence[Path], folder: Path, name: str) -> Path | None:
    """The file of a name, whose path has no "..": below one of `roots`, links aside; None if there is none.

    As it is; with / for a backslash; from a folder above, for the folders in the name; of a web address, or
    of another machine's absolute path, as many of the last parts as are there.
    """
    for reading in _readings(roots, folder, name):
        # Normalised, since the system would follow a link before it takes "..".
        place = Path(os.path.normpath(reading)) if ".." in reading.parts else reading
        if _is_below(roots, place) and _is_file(place):
            return place
    return None


def _readings(roots: Sequence[Path], folder: Path, name: str) -> Iterator[Path]:
    """What a name may mean, the likeliest first."""
    yield folder / name
    parts, is_foreign = _split(name)
    if not is_foreign:
        above = [place for place in folder.parents if _is_below(roots, place)]
        yield from (place.joinpath(*parts) for place in (folder, *above))
    elif not _is_file(Path(name)):
        yield from (folder.joinpath(*parts[first:]) for first in range(len(parts)))


def _split(name: str) -> tuple[tuple[str, ...], bool]:
    """The folders and the file of a name, and whether they begin at a machine's root or at a host."""
    host, drive = ADDRESS.match(name), DRIVE.match(name)
    if host:
        text = unquote(re.split(r"[?#]", name[host.end() :])[0])
    else:
        text = name[drive.end() if drive else 0 :].replace("\\", "/")
    return PurePosixPath(text.lstrip("/")).parts or (name,), bool(host or drive) or text.startswith("/")


def _is_below(roots: Sequence[Path], path: Path) -> bool:
    place = _absolute(path)
    return any(place.is_relative_to(_absolute(root)) for root in roots)


def _absolute(path: Path) -> Path:
    """A path without "..", links not followed, as `resolve` would."""
    return Path(os.path.normpath(path.absolute()))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the system
        return False


def is_plain(name: str) -> bool:
    """Whether a name is a relative path without a way out of its folder, on Windows neither (a drive's)."""
    return not {"\\", ":"} & set(name) and not name.startswith("/") and ".." not in name.split("/")


def explain_missing(roots: Sequence[Path], folder: Path, name: str) -> str:
    """Why an image is not found, as far as its folder tells, and what to do."""
    base = _split(name)[0][-1]
    if not _is_below(roots, folder / name):
        where = " or ".join(map(str, roots))
        return f"it lies outside {where}, where nothing is read: copy the images there, or link their folder"
    for place, _, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        if base in files and not _is_file(Path(place, base)):
            return f"{below / base} is there as a broken link or no plain file; put the image in its place"
        if base in files:
            remedy = "put that folder into" if below.parts else "take the folder out of"
            return f"it is there as {below / base}; {remedy} its file_name"
        like = next((file for file in sorted(files) if _folded(file) == _folded(base)), None)
        if like is not None:
            return f"it is there as {below / like}; upper and lower case must agree"
        like = next((file for file in sorted(files) if Path(file).stem == Path(base).stem), None)
        if like is not None:
            return f"it is there as {below / like}; correct file_name or the file's extension"
    return "put them there"


def _folded(name: str) -> str:
    """A name without regard to case and to how its accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()

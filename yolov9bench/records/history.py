"""What git knows of the records: none is changed or removed once it is committed."""

from __future__ import annotations

from pathlib import Path

from yolov9bench.io.git import run_git

CHANGED, REMOVED = "changed since it was committed", "removed since it was committed"


def find_altered(results_dir: Path) -> dict[str, str] | None:
    """The committed records that were changed or removed, by their path in the results folder, and which.

    By a commit as well as in the folder as it is now. None where git cannot tell: outside a checkout, or in a
    shallow one, whose earlier commits are not there.
    """
    results = results_dir.resolve()
    root = next((each for each in (results, *results.parents) if (each / ".git").exists()), None)
    if root is None or _ask(root, "rev-parse", "--is-shallow-repository") != ["false"]:
        return None
    folder = (results / "records").relative_to(root).as_posix()
    names = ["--name-status", "--no-renames", "-z", "--", folder]
    committed = _ask(root, "log", "--format=", "--diff-filter=MDT", *names)
    present = _ask(root, "diff", "HEAD", "--diff-filter=MDT", *names)
    if committed is None or present is None:
        return None
    altered: dict[str, str] = {}
    for status, path in [*_pairs(committed), *_pairs(present)]:
        name = Path(path).relative_to(Path(folder).parent).as_posix()
        altered[name] = REMOVED if status == "D" and not (results / name).is_file() else CHANGED
    return altered


def is_ancestor(commit: str, root: Path = Path(__file__).parents[2]) -> bool | None:
    """Whether a commit is in the history of what is checked out; None where git cannot tell."""
    if not (root / ".git").exists():
        return None
    try:
        status = run_git(root, "merge-base", "--is-ancestor", commit, "HEAD").returncode
    except OSError:
        return None
    return {0: True, 1: False}.get(status)


def _ask(root: Path, *arguments: str) -> list[str] | None:
    """The words of git's answer, which NUL or a line's end separates; None if it has none."""
    try:
        done = run_git(root, *arguments)
    except OSError:
        return None
    if done.returncode:
        return None
    return [word for word in done.stdout.strip("\n").split("\0" if "-z" in arguments else "\n") if word]


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    """(status, path) of git's answer to --name-status -z."""
    return list(zip(words[::2], words[1::2], strict=True))

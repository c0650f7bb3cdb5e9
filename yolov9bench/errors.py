"""The errors raised on purpose, one sentence with offender and remedy, and the checks behind them.

Each class says in its first paragraph what has happened, and in its second what to do: `results/errors.md` is
made of them.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import clear_frames

SHOWN_CHARACTERS = 60  # of a value in an error
MOST_INTEGER = 2**63 - 1  # what torch takes as a seed, among others
MOST = {"batch_size": 65_536, "workers": 1_024, "processes": 1_024, "freeze": 5}  # a stem and four stages
MOST_PIXELS = 16_384  # of an image's side
RESERVED = 16  # bytes of a name that are left for the file that is written before it gets its own


class BenchError(Exception):
    """Base of every error that a user can correct; the command line prints it as one sentence, status 2.

    Do what the end of its sentence says; nothing is left half written.
    """


class SettingsError(BenchError):
    """A misspelt or impossible parameter, row, protocol or value.

    Correct the value that is named, or take the name that is proposed; a training that has begun continues by
    the same command.
    """


class CheckpointError(BenchError):
    """A checkpoint that cannot be read, recognised or mapped completely.

    Fetch or save the file again, or say which network it holds; nothing in it was executed.
    """


class DatasetError(BenchError):
    """A data set folder that lacks something, or that does not fit the detector.

    Correct the folder or the entry that is named; `yolov9bench check-data` lists all faults at once.
    """


class StorageError(BenchError):
    """A file that could not be written, for want of space or rights.

    Make space, or correct the rights of the folder, and run the same command again: files from before are
    whole, and a training continues from its last checkpoint.
    """


class BusyError(BenchError):
    """A folder that another process is using.

    Wait until the process that is named has ended, end it, or choose another folder. The lock of a process
    that died is none.
    """


class DownloadError(BenchError):
    """A file that could not be fetched, or that is not what was published.

    Run it again, which continues where the transfer broke off, or place the file by hand where the sentence
    says.
    """


class UnreachableError(DownloadError):
    """A host that gives no answer at all.

    Check the network and its proxy, or place the file by hand where the sentence says.
    """


class RecordError(BenchError):
    """A record that cannot be written, read or trusted.

    Restore the file from git, or measure again; a record is never edited.
    """


class ReportError(BenchError):
    """A generated page or figure that is not what the records say, or has no place to be written.

    Run `yolov9bench report`, which writes all pages again, or `make parity` if parity.json is named.
    """


class MetricsError(BenchError):
    """Detections that do not fit their ground truth, or a metric on which two evaluators disagree.

    Check that the detections belong to these annotations; where two evaluators disagree, trust neither and
    report it.
    """


class DetectorError(BenchError):
    """A detector of the user's own that fails, or that returns what are no detections.

    Correct the function that is named, at the image that is named: what it must return is in the README.
    """


class SelfCheckError(BenchError):
    """A detector that on a few images does not behave as its protocol says.

    Mend what is named, in the detector or in code around it; or go on regardless with --no-self-check.
    """


class TrainingError(BenchError):
    """A run that diverged, does not fit into memory, or does not continue the one in its folder.

    Train in the same folder with what the sentence proposes, or in another one; the last good checkpoint is
    kept.
    """


class ProcessError(BenchError):
    """One of the processes of a run that ended, does not answer or cannot be reached.

    Mend what the process that has ended says itself, and start all with the same command, which continues.
    """


def shown(text: object, longest: int = 120) -> str:
    """Text from a file for one line of a message: what does not print is escaped, what is long is cut."""
    whole = str(text)
    escaped = printable(whole[:longest])
    return escaped[:longest] + ("..." if len(whole) > longest or len(escaped) > longest else "")


def printable(text: str) -> str:
    """Text on one line, with what does not print escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def shown_value(value: object) -> str:
    """A value on one line, and not all of a long one."""
    try:
        text = " ".join(repr(value).split())
    except RecursionError:
        text = "lists in lists in lists"
    except Exception:  # an integer of more digits than Python writes, or an object of somebody else's
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def drop_frames(error: BaseException) -> None:
    """Let go of what the functions held that an error came through, as workers or a connection.

    Otherwise that lives until Python looks for circles of objects, whenever that is.
    """
    each: BaseException | None = error
    while each is not None:
        clear_frames(each.__traceback__)
        each = each.__context__


def unknown(kind: str, value: str, choices: Iterable[str]) -> SettingsError:
    """The error for a name that is none of the choices: with the nearest of them, or with all."""
    names = list(choices)
    spelt = {name.lower(): name for name in names}
    close = get_close_matches(value.lower(), spelt, n=1)
    remedy = f"did you mean {spelt[close[0]]!r}?" if close else f"choose one of {', '.join(names)}"
    return SettingsError(f"there is no {kind} {value!r}; {remedy}")


def require_choice(kind: str, value: str, choices: Iterable[str]) -> None:
    """SettingsError with a suggestion for a name that is none of the choices."""
    names = list(choices)
    if value not in names:
        raise unknown(kind, value, names)


def require_in_range(least: int, **numbers: int | None) -> None:
    """SettingsError for a number below `least` or beyond MOST; None stands for a default and is accepted."""
    for name, value in numbers.items():
        if value is not None and value < least:
            raise SettingsError(f"{name} is {shown_value(value)}: give {least} or more")
        if value is not None and value > MOST.get(name, MOST_INTEGER):
            raise SettingsError(
                f"{name} is {shown_value(value)}: give {MOST.get(name, MOST_INTEGER)} or less"
            )


def require_image_size(image_size: int | None, stride: int = 32) -> None:
    """SettingsError for pixels that are no multiple of the network's largest stride, or too many."""
    if image_size is not None and image_size > MOST_PIXELS:
        raise SettingsError(f"image_size is {image_size}: give {MOST_PIXELS} or less")
    if image_size is not None and (image_size < stride or image_size % stride):
        below = max(image_size // stride, 1) * stride
        raise SettingsError(
            f"image_size {image_size} is not a multiple of {stride}: take {below} or {below + stride}"
        )


def require_present(name: str, path: Path | None) -> None:
    """SettingsError for an input file or folder that does not exist."""
    if path is not None and not exists(name, path):
        raise SettingsError(f"{name} {path} does not exist: check the path")


def require_folder(name: str, path: Path | None) -> None:
    """SettingsError for an input folder that does not exist, or that is a file."""
    require_present(name, path)
    if path is not None and not path.is_dir():
        raise SettingsError(f"{name} {path} is a file: give a folder")


def require_file(name: str, path: Path | None) -> None:
    """SettingsError for an input file that does not exist, or that is a folder."""
    require_present(name, path)
    if path is not None and path.is_dir():
        raise SettingsError(f"{name} {path} is a folder: give a file in it")


def require_writable(name: str, path: Path | None, folder: bool = False) -> None:
    """SettingsError for an output file, or `folder`, that could not be written; nothing is created."""
    if path is None:
        return
    if exists(name, path) and path.is_dir() != folder:
        raise SettingsError(f"{name} {path} is {'a file' if folder else 'a folder'}: choose another path")
    if exists(name, path) and not (folder or path.is_file()):  # which a finished file would take the place of
        raise SettingsError(f"{name} {path} is a device or a pipe: choose another path")
    parents = (path.absolute(), *path.absolute().parents)
    existing = next(each for each in parents if exists(name, each))
    if existing != path.absolute() and not existing.is_dir():
        raise SettingsError(f"{name} {path} lies below {existing}, which is a file: choose another path")
    if not os.access(existing, os.W_OK):
        raise SettingsError(f"{name} {path} cannot be written: check the rights of {existing}")
    # Windows does not tell.
    most = (os.pathconf(existing, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255) - RESERVED
    for part in path.parts:
        if len(os.fsencode(part)) > most:
            raise SettingsError(
                f"{name} has {part[:20]!r}… of more than {most} bytes in it: shorten the name"
            )


def exists(name: str, path: Path) -> bool:
    """Whether a path is there; SettingsError for one that no file can have, as a name that is too long."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a NUL is a ValueError
        cut = str(path) if len(str(path)) <= 60 else f"{str(path)[:60]}…"
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{name} {cut!r} cannot be a path ({reason}): choose another") from error
    return True

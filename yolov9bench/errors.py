"""The errors this library raises on purpose: one sentence that names the offender and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class BenchError(Exception):
    """Base of every error a user can mend; the command line prints it as one sentence and exits with 2."""


class SettingsError(BenchError):
    """A misspelt or impossible parameter, row, protocol or value."""


class CheckpointError(BenchError):
    """A checkpoint that cannot be read, recognised or mapped completely."""


class DatasetError(BenchError):
    """A data set folder that lacks something, or that does not fit the detector."""


class StorageError(BenchError):
    """A file that could not be written, for want of space or rights."""


class DownloadError(BenchError):
    """A file that could not be fetched, or that is not what was published."""


class UnreachableError(DownloadError):
    """A host that gives no answer at all."""


class RecordError(BenchError):
    """A record that cannot be written, read or trusted."""


class ReportError(BenchError):
    """A generated page or figure that is not what the records say, or has no place to be written."""


class MetricsError(BenchError):
    """Detections that do not fit their ground truth, or a metric on which two evaluators disagree."""


class TrainingError(BenchError):
    """A run that diverged, does not fit into memory, or does not continue the one in its folder."""


def unknown(kind: str, value: str, choices: Iterable[str]) -> SettingsError:
    """The error for a name that is none of the choices: with the nearest of them, or with all."""
    names = list(choices)
    close = get_close_matches(value, names, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"
    return SettingsError(f"there is no {kind} {value!r}; {remedy}")

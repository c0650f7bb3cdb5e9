"""The published checkpoint of a row, fetched once."""

from __future__ import annotations

from pathlib import Path

from yolov9bench.data import download
from yolov9bench.errors import CheckpointError, SettingsError
from yolov9bench.weights.load import Checkpoint, load
from yolov9bench.zoo.rows import Row, row_of_file, unlike


def fetch_checkpoint(row: Row, data_folder: Path, training: bool = False) -> Checkpoint:
    """The checkpoint that a row publishes; fetched to `data_folder`, or what is there already.

    SettingsError: a row without a published file. DownloadError as `download.checkpoint`. CheckpointError if
    a download under a hash that is known nowhere holds another network.
    """
    if not row.assets:
        raise SettingsError(f"row {row.id!r} names no file to fetch: give the path of a checkpoint")
    loaded = load(download.checkpoint(row.download, data_folder).path, training)
    if row_of_file(loaded.sha256) is None:
        require_network_of(row, loaded)
    return loaded


def require_network_of(row: Row, checkpoint: Checkpoint) -> None:
    """Refuse a download whose content is not that of its row; where no hash is known, nothing else tells."""
    faults = unlike(row, checkpoint.format, checkpoint.spec, checkpoint.detector.num_classes)
    if faults:
        raise CheckpointError(
            f"{row.download.name} is not the file of {row.id} ({'; '.join(faults)}): "
            f"delete it to fetch it from {row.download.url} again"
        )

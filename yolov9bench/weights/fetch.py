"""A checkpoint by its path, or by the id of the row that publishes it, which is fetched once."""

from __future__ import annotations

from pathlib import Path

from yolov9bench.config import project_root, require_checkpoint
from yolov9bench.data import download
from yolov9bench.errors import CheckpointError, SettingsError, exists
from yolov9bench.weights.load import Checkpoint, load
from yolov9bench.zoo.rows import ROWS, Row, row, row_of_file, unlike


def load_any(path: str | Path, training: bool = False, data_dir: str | Path | None = None) -> Checkpoint:
    """A checkpoint of any known format, from a file or, by the id of a row, fetched from its publisher.

    path: a file, or a row's id in any case, like "yolov9-m". training: the graph with its auxiliary branch,
    in train mode. data_dir: where fetched files are kept; data/ at the root of the project if None.
    CheckpointError names what does not fit; SettingsError a name that is neither a file nor a row.
    """
    require_checkpoint(path)
    if str(path).lower() in ROWS and not exists("checkpoint", Path(path)):
        return fetch_checkpoint(row(str(path)), Path(data_dir or project_root() / "data"), training)
    return load(path, training)


def fetch_checkpoint(of: Row, data_folder: Path, training: bool = False) -> Checkpoint:
    """The checkpoint that a row publishes; fetched to `data_folder`, or what is there already.

    SettingsError: a row without a published file. DownloadError as `download.checkpoint`. CheckpointError if
    a download under a hash that is known nowhere holds another network, or none; it is not kept then.
    """
    if not of.assets:
        raise SettingsError(f"row {of.id!r} names no file to fetch: give the path of a checkpoint")

    def check(path: Path) -> None:
        try:
            require_network_of(of, load(path))
        except CheckpointError as error:
            raise CheckpointError(f"what {of.download.url} sends was not kept: {error}") from error

    loaded = load(download.checkpoint(of.download, data_folder, check).path, training)
    if row_of_file(loaded.sha256) is None:
        require_network_of(of, loaded)
    return loaded


def require_network_of(row: Row, checkpoint: Checkpoint) -> None:
    """Refuse a download whose content is not that of its row; where no hash is known, nothing else tells."""
    faults = unlike(row, checkpoint.format, checkpoint.spec, checkpoint.detector.num_classes)
    if faults:
        raise CheckpointError(
            f"{row.download.name} is not the file of {row.id} ({'; '.join(faults)}): "
            f"delete it to fetch it from {row.download.url} again"
        )

"""What is refused before the first step of a training, since it would fail later or in vain."""

from __future__ import annotations

from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.nn.head import STRIDES
from yolov9bench.ops.compiler import require_compiler
from yolov9bench.ops.distributed import current_ranks
from yolov9bench.records.record import require_row_name
from yolov9bench.train.event_files import require_writer
from yolov9bench.train.job import Job, validation_settings


def require_usable(job: Job) -> None:
    """Refuse, before the first step, what would fail later or in vain.

    SettingsError: an image size that no network takes, a batch that BatchNorm does not take, another number
    of processes than the job's, or nothing here that could compile the network. DatasetError: a validation
    set of other classes than are trained on, or one that cannot tell checkpoints apart. RecordError: a row
    whose id cannot name its record's folder.
    """
    if job.world_size != current_ranks().world_size:
        raise SettingsError(
            f"the job is for {job.world_size} processes, but here are {current_ranks().world_size}: start "
            "that many with torchrun"
        )
    require_row_name(job.row.id)
    validation_settings(job)
    require_statistics(job)
    if job.compile:
        if job.world_size > 1:
            raise SettingsError("compile is for one process: start it without torchrun, or leave it out")
        require_compiler(job.device)
    if job.tensorboard:
        require_writer()
    if not job.validation.has_objects:
        raise DatasetError(
            f"{job.validation.split} of {job.validation.root} has no objects to validate on, so no "
            "checkpoint would be the best: annotate it, or validate on another split"
        )


def require_statistics(job: Job) -> None:
    """SettingsError if a batch has one value of a channel in the smallest maps: it would have no variance.

    That is one image alone, as an epoch's last batch may have it, of the size of the largest stride.
    """
    count, size = job.images_each, job.recipe.augmentation.image_size
    if size > STRIDES[-1] or (job.batch_size > 1 and count % job.batch_size != 1):
        return
    remedy = f"give image_size {2 * size}"
    if count > 1:
        better = next(each for each in range(max(job.batch_size, 2), count + 1) if count % each != 1)
        remedy = f"give batch_size {better}, or image_size {2 * size}"
    raise SettingsError(
        f"batch_size {job.batch_size} leaves one of {count} images of {size} px alone in a batch, of which "
        f"BatchNorm takes no statistics: {remedy}"
    )

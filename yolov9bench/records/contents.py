"""Which keys a record of each kind has, and of which type; writers and readers use the same dataclasses.

A field that a record does not state, as an older one may not, is None.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from yolov9bench.errors import RecordError, shown, shown_value
from yolov9bench.io.provenance import Environment
from yolov9bench.records.own import OwnDetector
from yolov9bench.records.record import Record, hash8

PARITY = "parity_verified"  # hotcoco's word for a run by COCO's own parameters
ADDED_SETTINGS = ("classes", "evaluator", "backend")  # of an evaluation, which older records do not state
UNPINNED = "unpinned"  # the hash of a download for which none is published
PLAIN = "plain"  # the training step on a usual batch, beside others on fuller ones
HALF_SAMPLES = "half-samples"  # how an interval of AP was found
PUBLISHED_SETUP = "published_setup"  # the training step as the published memory was measured
TYPE_NAMES: dict[type, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
ALSO_ACCEPTED: dict[type, tuple[type, ...]] = {float: (int,), list: (tuple,)}  # JSON has no tuples

Part = TypeVar("Part")


@dataclass(frozen=True)
class EvaluateValues:
    """The twelve COCO metrics (fractions, -1 where undefined), the interval of AP, and the detections.

    The metrics come first, in pycocotools' order. `AP_interval` has two ends, or is None where the images
    cannot tell it; `AP_interval_method` is HALF_SAMPLES, and None in records of the percentile bootstrap.
    `detections`: their file if they were kept, the sha256 of their JSON, and their count.
    `counts` of the run: images, candidates (a box and class above the threshold, before suppression, in all
    views) and detections that were kept, of all classes; None where a record is older.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARs: float | None
    ARm: float | None
    ARl: float | None
    AP_interval: list[float] | None
    AP_interval_method: str | None
    detections: dict[str, Any] | None
    counts: dict[str, int] | None


METRICS = tuple(name for name, hint in get_type_hints(EvaluateValues).items() if hint == float | None)


@dataclass(frozen=True)
class EvaluatorSettings:
    """What the evaluator that ran says of itself: hotcoco's word for its parity, and each departure from it.

    `provenance` is PARITY where every parameter is COCO's own; `reference_deviations` are sentences.
    """

    provenance: str | None
    reference_deviations: list[str] | None


@dataclass(frozen=True)
class PrecisionCheck:
    """AP of 16 bits beside that of float32 on the first images of the data set, by the same run."""

    images: int | None
    AP: float | None
    AP_float32: float | None


@dataclass(frozen=True)
class BackendSettings:
    """How the network was computed, which changes rounding and speed: the name of a Backend of `zoo`.

    `keeps_memory`: whether the allocator kept freed memory meanwhile. `check`: of a backend of 16 bits, how
    far it is from float32; None of others.
    """

    name: str | None
    keeps_memory: bool | None
    check: PrecisionCheck | None


@dataclass(frozen=True)
class EvaluateSettings:
    """The settings that ran; `protocol` holds those of a Protocol, `dtype` that of the network's weights,
    or "tf32" where a GPU rounded its products.

    `classes`: those that were chosen, the data set's name by the detector's; empty for all, and None where a
    record is older than the choice, when there were always all. `evaluator`: None where a record is older.
    """

    protocol: dict[str, Any] | None
    batch_size: int | None
    dtype: str | None
    fused: bool | None
    judge: bool | None
    skip_corrupt: bool | None
    classes: dict[str, str] | None
    evaluator: EvaluatorSettings | None
    backend: BackendSettings | None

    @property
    def protocol_name(self) -> Any:
        """The name that the protocol states."""
        return (self.protocol or {}).get("name")

    @property
    def has_several_views(self) -> bool:
        """Whether detections of several views were merged."""
        views = (self.protocol or {}).get("views")
        return isinstance(views, list | tuple) and len(views) > 1


@dataclass(frozen=True)
class Download:
    """Where weights whose hash is known nowhere came from; `hash` is UNPINNED."""

    url: str | None
    bytes: int | None
    hash: str | None


@dataclass(frozen=True)
class RecordName:
    """Another record: the name of its file, and the sha256 of its content as `record.hash_of` gives it."""

    file: str | None
    sha256: str | None


@dataclass(frozen=True)
class EvaluateInputs:
    """What went in: hashes of weights, annotations and image list, and counts; `images` less the skipped.

    `training` is the record of the training that wrote the weights, None where none is known. `own` is of a
    detector of the user's own, which no row of the table has; a function has no weights.
    """

    weights_sha256: str | None
    format: str | None
    flavour: str | None
    spec: str | None
    classes: int | None
    demo: bool | None
    split: str | None
    annotations_sha256: str | None
    image_list_sha256: str | None
    images: int | None
    images_skipped: list[str] | None
    images_of_other_size: int | None
    download: Download | None
    training: RecordName | None
    own: OwnDetector | None


@dataclass(frozen=True)
class EvaluateContents:
    """What a record of kind "evaluate" states."""

    values: EvaluateValues
    settings: EvaluateSettings
    inputs: EvaluateInputs
    environment: Environment


@dataclass(frozen=True)
class GraphCosts:
    """One figure of the graph that is trained and of the one that is deployed."""

    training: float | None
    deployed: float | None


@dataclass(frozen=True)
class TimingFigures:
    """Seconds of one run on a batch, by percentile, and the throughput of the median run."""

    batch: int | None
    runs: int | None
    p50: float | None
    p95: float | None
    p99: float | None
    images_per_second: float | None


@dataclass(frozen=True)
class MemoryFigures:
    """Predicted bytes, and those that were measured on a GPU, as `profiling.peak_memory.Peak` has them."""

    predicted_bytes: int | None
    allocated_bytes: int | None
    reserved_bytes: int | None
    process_bytes: int | None


@dataclass(frozen=True)
class Memory:
    """Memory of one image through the deployed detector; of training steps by name, None without a recipe."""

    inference: MemoryFigures
    training: dict[str, MemoryFigures] | None


@dataclass(frozen=True)
class MeasureValues:
    """Parameters, GFLOPs, the time of one image, the batch of highest throughput, and memory."""

    parameters: GraphCosts
    gflops: GraphCosts
    latency_seconds: TimingFigures
    throughput: TimingFigures
    memory: Memory


@dataclass(frozen=True)
class StepSettings:
    """The batch of a training step whose memory counts, and the bytes that the published set-up adds."""

    batch_size: int | None
    boxes_an_image: int | None
    fullest_of_images: int | None  # boxes_an_image is that of the fullest of so many; of a crowd None
    assumed_positives: int | None
    precision: str | None
    iterations_a_step: int | None
    gradient_bytes: int | None  # of the buckets, and as many of kept gradients
    assigner_bytes: int | None


@dataclass(frozen=True)
class MeasureSettings:
    """The settings of a measurement; `training` and `recipe` are None where no recipe is known."""

    image_size: int | None
    inference_precision: str | None
    seconds_a_figure: float | None
    allocator_block_bytes: int | None
    training: dict[str, StepSettings] | None
    recipe: dict[str, Any] | None


@dataclass(frozen=True)
class MeasureInputs:
    """What is measured: a network of fresh weights on noise."""

    weights: str | None
    pixels: str | None
    spec: str | None
    classes: int | None
    demo: bool | None


@dataclass(frozen=True)
class MeasureContents:
    """What a record of kind "measure" states."""

    values: MeasureValues
    settings: MeasureSettings
    inputs: MeasureInputs
    environment: Environment


def read_evaluate(record: Record) -> EvaluateContents:
    """What an evaluation states; RecordError names the first key whose value has a wrong type."""
    return _read_record(EvaluateContents, record)


def read_measure(record: Record) -> MeasureContents:
    """What a measurement states; RecordError as `read_evaluate`."""
    return _read_record(MeasureContents, record)


def _read_record(form: type[Part], record: Record) -> Part:
    try:
        return read_part(form, vars(record), "")
    except RecordError as error:  # a hash takes longer than reading, so only an error has it
        raise RecordError(f"record {hash8(record)}: {error}") from error


def read_part(form: type[Part], stored: Any, place: str) -> Part:
    """A dataclass from a dictionary, field by field; other keys are ignored. An error begins with `place`."""
    hints = _hints_of(form)  # type: ignore[arg-type]  # a class is hashable
    return form(**{name: _read_value(hint, stored.get(name), place, name) for name, hint in hints.items()})


@dataclass(frozen=True)
class _Hint:
    """A field's type taken apart, once for all records: `kind` or None, if `is_optional`.

    plain: the type in JSON, and `accepted` what `isinstance` takes for it. inner: what a list or the values
    of an object are. A `kind` of Any takes everything.
    """

    kind: Any
    is_optional: bool
    is_part: bool
    plain: type[Any]
    accepted: tuple[type, ...]
    inner: _Hint | None


@cache
def _hints_of(form: type[Any]) -> dict[str, _Hint]:
    return {name: _taken_apart(hint) for name, hint in get_type_hints(form).items()}


def _taken_apart(hint: Any) -> _Hint:
    """Of a type, or of a type and None."""
    kind, *optional = get_args(hint) if NoneType in get_args(hint) else (hint,)
    is_part = isinstance(kind, type) and is_dataclass(kind)
    plain = dict if is_part else get_origin(kind) or kind
    accepted = (plain, *ALSO_ACCEPTED.get(plain, ()))
    inner = _taken_apart(get_args(kind)[-1]) if plain in (list, dict) and not is_part else None
    return _Hint(kind, bool(optional), is_part, plain, accepted, inner)


def _read_value(hint: _Hint, stored: Any, place: str, name: str) -> Any:
    """A value as its field's type has it; the place of an error is `place` and `name`."""
    if hint.kind is Any or (stored is None and hint.is_optional):
        return stored
    value: Any = {} if stored is None and hint.is_part else stored
    if not _fits(hint, value):
        said = f"{shown(place + name)} {shown_value(value)}"
        raise RecordError(f"{said}, which is not {TYPE_NAMES[hint.plain]}: measure again")
    if hint.is_part:
        return read_part(hint.kind, value, f"{place}{name}.")
    if hint.inner is None:
        return value
    if hint.plain is list:
        places = ((f"{name}[{index}]", each) for index, each in enumerate(value))
        return [_read_value(hint.inner, each, place, of) for of, each in places]
    return {key: _read_value(hint.inner, each, f"{place}{name}.", key) for key, each in value.items()}


def _fits(hint: _Hint, value: Any) -> bool:
    """Whether a value has the field's type; a bool is an int by inheritance alone."""
    return isinstance(value, hint.accepted) and isinstance(value, bool) == (hint.plain is bool)

"""Records: what was measured, and whether it may stand in the table; needs no torch."""

from yolov9bench.records.record import (
    CUSTOM,
    KINDS,
    Record,
    as_stored,
    by_start,
    canonical,
    hash8,
    hash_of,
    path_of,
    read,
    select,
    write,
)

__all__ = [
    "CUSTOM",
    "KINDS",
    "Record",
    "as_stored",
    "by_start",
    "canonical",
    "hash8",
    "hash_of",
    "path_of",
    "read",
    "select",
    "write",
]

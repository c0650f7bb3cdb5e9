"""Fixtures for every test: the shared material, and a thread count that fits small machines."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of goldens, images and weights; unset, the test skips; set, a gap is an error."""
    place = os.environ.get("YOLOV9BENCH_SHARED")
    if not place:
        pytest.skip("YOLOV9BENCH_SHARED is not set: no shared goldens, images and weights")
    folder = Path(place)
    if not folder.is_dir():
        raise FileNotFoundError(f"YOLOV9BENCH_SHARED is set to {place}, which is no folder")
    return folder

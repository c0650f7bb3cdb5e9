"""What torch.compile needs to translate a network for this machine."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

from yolov9bench.errors import SettingsError


def require_compiler(device: str) -> None:
    """SettingsError if what torch.compile needs on this device is not here: Triton, or a compiler of C++."""
    if device.startswith("cuda"):
        if find_spec("triton") is None:
            raise SettingsError(
                "torch.compile needs the package triton on a GPU: install it, or do not compile"
            )
        return
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        raise SettingsError(
            f"torch.compile needs a C++ compiler, and {compiler} is not here: install it, name another in "
            "the environment variable CXX, or do not compile"
        )

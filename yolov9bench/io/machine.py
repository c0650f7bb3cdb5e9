"""The libraries and the machine behind a number, as a record has them; no paths, no host names."""

import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from yolov9bench.io import provenance

LIBRARIES = {  # library -> what it is imported as
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv": "cv2",
    "hotcoco": "hotcoco",
    "pycocotools": "pycocotools",
}


def describe_environment(device: str) -> provenance.Environment:
    """What a record says of a run on the torch device `device`; RecordError as `provenance.code`."""
    state = provenance.code()
    on_cuda = torch.device(device).type == "cuda"
    return provenance.Environment(
        commit=state.commit,
        dirty=state.dirty,
        versions={
            provenance.DISTRIBUTION: state.version,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # names its build, as in 2.11.0+cpu, which its metadata does not
            **_library_versions(),
        },
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        device_name=device_name(device),
        cuda=_cuda_versions() if on_cuda else None,
        threads=torch.get_num_threads(),
        float32=_float32(on_cuda),
    )


def device_name(device: str) -> str:
    """The model of a CUDA device, or of the processor."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else _processor()


@cache  # reading what all installed packages hold takes half a second
def _library_versions() -> dict[str, str | None]:
    """By library, not by distribution: four of these bring the same cv2. None where it is not installed."""
    distributions = metadata.packages_distributions()
    return {
        library: metadata.version(distributions[module][0]) if module in distributions else None
        for library, module in LIBRARIES.items()
    }


def _float32(on_cuda: bool) -> dict[str, str]:
    # These names also show what the older switches set (allow_tf32, set_float32_matmul_precision), whose own
    # getters raise once both were used. "none" is where nothing was lowered.
    backends: Any = torch.backends  # mypy does not see all their attributes
    matmul, library = (
        (backends.cuda.matmul, backends.cudnn) if on_cuda else (backends.mkldnn.matmul, backends.mkldnn)
    )
    precisions = {"matmul": matmul.fp32_precision, "convolution": library.conv.fp32_precision}
    return {name: "ieee" if precision == "none" else precision for name, precision in precisions.items()}


def _cuda_versions() -> dict[str, object]:
    cudnn: Any = torch.backends.cudnn
    return {"driver": _driver(), "runtime": torch.version.cuda, "cudnn": cudnn.version()}


def _driver() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.split("\n")[0].strip() or None if answer.returncode == 0 else None


def _processor() -> str:
    """The processor's model on Linux; elsewhere what Python knows, at least its architecture."""
    facts = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", facts.read_text() if facts.exists() else "", re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()

"""Where a number comes from: the code, the libraries and the machine behind it; no paths, no host names."""

import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from yolov9bench.errors import RecordError
from yolov9bench.io.git import run_git

DISTRIBUTION = "yolov9bench"
LIBRARIES = {  # library -> what it is imported as
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv": "cv2",
    "hotcoco": "hotcoco",
    "pycocotools": "pycocotools",
}
# The table is written into the README after a measurement, which must not spoil the next one.
GENERATED = re.compile(r"<!-- table -->.*?<!-- /table -->", re.DOTALL)
# Inside a text: two parts at least, so that "km /h" stays, and no tail of a word or a web address.
EMBEDDED = re.compile(
    r"""(?:(?<![\w.:/~<-])(?:file://)?(?:/[^\s/"'`,;:()\[\]{}<>]+){2,}|(?<!\w)[A-Za-z]:[\\/][^\s"'`,;()\[\]{}<>]+)"""
)


@dataclass(frozen=True)
class Code:
    """The code that ran: its commit and whether files differ from it (None outside git), its version."""

    commit: str | None
    dirty: bool | None
    version: str | None


@cache
def code(root: Path = Path(__file__).parents[2]) -> Code:
    """The state of the checkout in `root`, read once: what is edited after the first call does not run.

    Dirty: a tracked file outside results/ and outside the README's generated block differs from the commit.
    Without a checkout the installed version stands in. RecordError: neither is there, or git fails.
    """
    version = _version(DISTRIBUTION)
    if not (root / ".git").exists():
        if version is None:
            raise RecordError(
                f"{DISTRIBUTION} is neither installed nor in a git checkout: install it with pip."
            )
        return Code(None, None, version)
    changes = _git(
        root, "diff", "HEAD", "--name-status", "--no-renames", "-z", "--", ".", ":(exclude)results"
    )
    dirty = changes != "" if changes != "M\0README.md\0" else _differs_outside_table(root)
    return Code(_git(root, "rev-parse", "HEAD").strip(), dirty, version)


def environment(device: str) -> dict[str, object]:
    """What a record says of the code, the libraries and the machine, for a run on the torch device `device`.

    `cuda` is None unless the device is one; its `driver` is None where nvidia-smi does not tell it. `float32`
    says how the device computes: "ieee", or rounded on the way to "tf32" or "bf16". RecordError as `code`.
    """
    import torch

    state = code()
    on_cuda = torch.device(device).type == "cuda"
    return {
        "commit": state.commit,
        "dirty": state.dirty,
        "versions": {
            DISTRIBUTION: state.version,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # names its build, as in 2.11.0+cpu, which its metadata does not
            **_library_versions(),
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _processor(),
        "cuda": _cuda_versions() if on_cuda else None,
        "threads": torch.get_num_threads(),
        "float32": _float32(on_cuda),
    }


def command() -> list[str]:
    """The arguments of this process, absolute paths reduced to file names."""
    return [reduce_paths(argument) for argument in sys.argv]


def reduce_paths(value: Any) -> Any:
    """A str, path, list, tuple or dict of them with every absolute path reduced to its file name.

    A string that is one, or `name=` one, is reduced whole, blanks included; inside other text a path ends at
    a blank, quote, comma or bracket. Other values are returned as they are, paths as strings and tuples as
    lists.
    """
    if isinstance(value, dict):
        return {key: reduce_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [reduce_paths(part) for part in value]
    if isinstance(value, PurePath):
        return reduce_paths(str(value))
    if not isinstance(value, str):
        return value
    name, sign, rest = value.rpartition("=") if not _absolute(value) else ("", "", value)
    if _absolute(rest):
        return name + sign + _file_name(rest)
    return EMBEDDED.sub(lambda found: _file_name(found[0]), value)


def _absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _file_name(path: str) -> str:
    return PureWindowsPath(path).name or path  # it parts at / and \ alike; a root has no name


def _git(root: Path, *arguments: str) -> str:
    try:
        result = run_git(root, *arguments)
    except OSError as error:
        raise RecordError("git cannot be run, so nothing tells which code this is: install git.") from error
    if result.returncode:
        raise RecordError(
            f"git {arguments[0]} fails in {root} ({result.stderr.strip().partition(chr(10))[0]}), "
            "so nothing tells which code this is: mend the checkout."
        )
    return result.stdout


def _differs_outside_table(root: Path) -> bool:
    committed = _git(root, "show", "HEAD:README.md")
    current = (root / "README.md").read_text(encoding="utf-8")
    return GENERATED.sub("", committed) != GENERATED.sub("", current)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _library_versions() -> dict[str, str | None]:
    """By library, not by distribution: four of these bring the same cv2. None where it is not installed."""
    distributions = metadata.packages_distributions()
    return {
        library: metadata.version(distributions[module][0]) if module in distributions else None
        for library, module in LIBRARIES.items()
    }


def _float32(on_cuda: bool) -> dict[str, str]:
    import torch

    # These names also tell what the older switches set (allow_tf32, set_float32_matmul_precision), whose own
    # getters raise once both were used. "none" is where nothing was lowered.
    backends: Any = torch.backends  # mypy does not see all their attributes
    matmul, library = (
        (backends.cuda.matmul, backends.cudnn) if on_cuda else (backends.mkldnn.matmul, backends.mkldnn)
    )
    precisions = {"matmul": matmul.fp32_precision, "convolution": library.conv.fp32_precision}
    return {name: "ieee" if precision == "none" else precision for name, precision in precisions.items()}


def _cuda_versions() -> dict[str, object]:
    import torch

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

"""The files around the library agree with one another: pins, lock, licence, versions, commands in texts."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
APACHE_TEXT = (
    "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # sha256 of the licence as published
)
PYTHONS = ["3.11", "3.12", "3.13"]
MACHINES = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
    return table


@pytest.fixture(scope="module")
def locked() -> list[tuple[Requirement, list[str]]]:
    """Each entry of the lock with its hashes; a package can have one entry for each range of Pythons."""
    entries = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^#.*\n", "", read("requirements.lock")))
    found = []
    for entry in filter(None, entries):
        head, *options = entry.replace("\\\n", "\n").splitlines()
        found.append((Requirement(head), [option.strip() for option in options]))
    return found


def environment_of(python: str, platform: str, machine: str) -> dict[str, str]:
    """What a marker of the lock sees on such a machine."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
        "platform_machine": machine,
        "os_name": "nt" if platform == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def test_conda_file_has_the_pins_of_the_project(project: dict[str, Any]) -> None:
    listed = yaml.safe_load(read("environment.yml"))["dependencies"]
    python, pip, packages = listed
    assert pip == "pip"
    assert Requirement(python).specifier == Requirement(f"python{project['requires-python']}").specifier
    assert sorted(packages["pip"]) == sorted([*project["dependencies"], "--editable ."])


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES, ids="-".join)
def test_lock_meets_every_pin_on_every_machine(
    project: dict[str, Any],
    locked: list[tuple[Requirement, list[str]]],
    python: str,
    machine: tuple[str, str],
) -> None:
    here = environment_of(python, *machine)
    versions = {
        canonicalize_name(entry.name): str(entry.specifier).removeprefix("==")
        for entry, _ in locked
        if entry.marker is None or entry.marker.evaluate(here)
    }
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        pin = Requirement(text)
        assert pin.specifier, f"{text} has no lower bound"
        version = versions.get(canonicalize_name(pin.name), "0")
        assert version in pin.specifier, f"{text} is not met: run make lock"


def test_lock_is_exact_hashed_and_names_no_place(locked: list[tuple[Requirement, list[str]]]) -> None:
    for entry, options in locked:
        assert re.fullmatch(r"==[^*,]+", str(entry.specifier)), f"{entry} is not one version"
        assert options, f"{entry} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options), f"{entry}"
    assert "://" not in read("requirements.lock")
    assert "index-url" not in read("requirements.lock")


def test_every_dependency_beyond_the_expected_says_why(project: dict[str, Any]) -> None:
    expected = {"torch", "torchvision", "jupyterlab", "papermill", "pandas", "matplotlib"}
    expected |= {"pycocotools", "requests", "tabulate"}
    lines = read("pyproject.toml").splitlines()
    for text in project["dependencies"]:
        if Requirement(text).name not in expected:
            assert any(re.search(rf'"{re.escape(text)}",\s+# \w+', line) for line in lines), f"{text}: why?"


def test_licence_is_the_published_text(project: dict[str, Any]) -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_TEXT
    citation = yaml.safe_load(read("CITATION.cff"))
    assert project["license"] == citation["license"] == "Apache-2.0"
    assert project["version"] == citation["version"]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make as a user would: without the variables of a make that may be running these tests."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for name in ("ARGS", "SIZE", "FAMILY", "PYTHON"):
        variables.pop(name, None)
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("text", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_the_texts_exist(text: str) -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", read("Makefile")))
    code = "\n".join(re.findall(r"(?ms)^```.*?^```|`[^`\n]+`", read(text)))
    named = set(re.findall(r"\bmake ([a-z]+)", code))
    assert named
    assert named <= targets


def test_make_alone_lists_every_target() -> None:
    shown = make().stdout
    declared = set(re.findall(r"(?m)^\.PHONY: (.*)$", read("Makefile"))[0].split()) - {"help"}
    assert declared == set(re.findall(r"(?m)^make ([a-z]+)", shown))


def test_make_reproduce_runs_the_notebook_with_its_parameters() -> None:
    run = make("--dry-run", "reproduce", "SIZE=s", "ARGS=-p limit 8", "--assume-old=.venv/installed")
    command = run.stdout.splitlines()[-1].split(" -m ")[1].strip()
    papermill = "papermill notebooks/reproduce.ipynb results/runs/yolov9-s.ipynb"
    assert command == f"{papermill} -p family yolov9 -p size s -p limit 8"


def test_make_test_runs_workers_of_one_thread_and_passes_arguments_on(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS thread: $*"\n')
    python.chmod(0o755)
    (tmp_path / "installed").touch()
    said = make("test", "ARGS=-k nms -x", f"VENV={tmp_path}").stdout.splitlines()[-1]
    workers = "--numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder"
    assert said == f"1 thread: -m pytest {workers} -k nms -x"


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_make_refuses_another_python(tmp_path: Path, version: tuple[int, int]) -> None:
    python = tmp_path / "python"
    # A stand-in that carries the tested condition out with another version, and would fail at anything else.
    python.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "Python {version[0]}.{version[1]}.0"; exit 0; fi\n'
        f'exec "{sys.executable}" -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2"\n'
    )
    python.chmod(0o755)
    run = make("test", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert run.returncode != 0
    assert f"Python {version[0]}.{version[1]}.0, but 3.11, 3.12 or 3.13 is needed" in run.stderr
    assert not (tmp_path / "venv").exists()


def test_make_says_that_python_is_missing(tmp_path: Path) -> None:
    run = make("test", "PYTHON=no-such-python", f"VENV={tmp_path / 'venv'}")
    assert run.returncode != 0
    assert "no-such-python was not found: install Python 3.11, 3.12 or 3.13" in run.stderr

"""One way to ask git about a checkout."""

import subprocess
from pathlib import Path


def run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in the checkout at `root`, writing no lock; OSError where git is not installed.

    Naming the git-dir overrides GIT_DIR, which hooks set, and lets any user read it, as in containers.
    """
    place = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    return subprocess.run(
        ["git", "--no-optional-locks", *place, *arguments],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )

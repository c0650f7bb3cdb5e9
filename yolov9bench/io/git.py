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


def commit_of(file: Path) -> str | None:
    """The checked-out commit of a file's repository if it holds the file as it is, else None.

    None as well outside a repository and where git is not installed.
    """
    file = file.resolve()
    root = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    if root is None:
        return None
    try:
        tracked = run_git(root, "ls-files", "--error-unmatch", "--", str(file))
        changed = run_git(root, "diff", "--quiet", "HEAD", "--", str(file))
        head = run_git(root, "rev-parse", "HEAD")
    except OSError:
        return None
    unchanged = not (tracked.returncode or changed.returncode or head.returncode)
    return head.stdout.strip() if unchanged else None

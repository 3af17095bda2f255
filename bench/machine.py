"""On which machine, and of which commit, something was measured."""

import os
import platform
import subprocess
from typing import Any


def machine() -> dict[str, Any]:
    """A `+` behind the commit says that the sources differed from it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + ("+" if dirty.stdout else ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
    }

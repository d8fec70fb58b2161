"""What a result is written down with, so that its number can be made again."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is measured; "unknown" outside a clone."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return answer.stdout.strip() or "unknown"

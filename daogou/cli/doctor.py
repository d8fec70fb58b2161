"""`doctor`: what this machine has, and what each extra misses."""

import os
import re
from pathlib import Path

from daogou.cli.flags import Lang, language_of
from daogou.cli.say import answer, console


def doctor(lang: Lang = "en") -> None:
    """Versions, cores, GPU, disk, and what each extra misses.

    Example: daogou doctor
    """
    import platform
    import shutil

    import torch

    from daogou.report import terminal

    language = language_of(lang)
    names = ("daogou", "torch", "numpy", "duckdb", "pyarrow", "safetensors", "typer", "rich")
    document = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in names},
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "missing": missing(),
    }
    terminal.show(console, terminal.machine(document, lang=language))
    answer(document)


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed


def missing() -> dict[str, list[str]]:
    """What each extra of the installed package asks for and is not there, by extra."""
    from importlib import metadata

    try:
        wanted = metadata.requires("daogou") or []
    except metadata.PackageNotFoundError:
        return {}
    missing: dict[str, list[str]] = {}
    for line in wanted:
        extra = re.search(r"extra == ['\"](.+?)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra is None or name is None:
            continue
        found = missing.setdefault(extra[1], [])
        if name[0] != "daogou" and _version(name[0]) is None:
            found.append(name[0])
    return missing

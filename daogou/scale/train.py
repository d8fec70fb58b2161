"""A shop to a trained run by several processes, which Ray Train starts, watches and restarts."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from daogou.errors import DaogouError, DataError
from daogou.learn.claim import ended
from daogou.learn.compile import compile_by
from daogou.learn.fit import begun, fit
from daogou.learn.loop import Progress, quiet
from daogou.learn.peers import Group
from daogou.learn.settings import refits, settings_of
from daogou.scale.cluster import awaited, cluster
from daogou.scale.share import died
from daogou.scale.tables import Sharing
from daogou.scale.told import followed, teller
from daogou.schema import Shop
from daogou.tables.parts import divisible

_PATIENCE: Final = 24 * 3600  # seconds that the others wait while the leader judges or writes
_TOLD: Final = "progress"  # folders in the run, while it is trained
_RAY: Final = "ray"


def fit_by(
    shop: Shop,
    run: Path | str,
    *,
    workers: int,
    address: str = "local",
    resume: bool = False,
    failures: int = 3,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """`fit` by so many processes; returns what it returns and leaves the same kind of run.

    Every step reads what it reads in one process, each process a part of it, and gradients are
    averaged: of tables only touched rows travel. ``run`` and the shop's tables lie where all of
    them see them. So many processes compile the tables first, see `Sharing`. When one dies, all
    start again from the last checkpoint, up to ``failures`` times; after that, or after a kill of
    everything, ``resume`` goes on there.

    Raises what `fit` raises, MissingExtra without Ray, ConfigError where no cluster answers, and
    DataError where processes die more often.
    """
    run = Path(run).resolve()
    shop = replace(shop, root=shop.root.resolve())  # a process begins in a folder of its own
    settings, _ = settings_of(shop)
    if resume and (answer := ended(run, shop)) is not None:
        for left in (_TOLD, _RAY):
            shutil.rmtree(run / left, ignore_errors=True)
        return answer

    def others(folder: Path) -> Sharing | None:
        if workers == 1 or not divisible(shop):
            return None
        return Sharing(folder / "parts", settings, workers, progress)

    def once(resume: bool) -> bool:
        with cluster(address, workers, threads=max(settings.threads, 1)) as ray:
            with begun(shop, run, resume=resume, progress=progress, others=others):
                again = others(run) if refits(shop, settings) else None
                if again is not None:
                    compile_by(again, shop, run, validation_teaches=True, progress=progress)
            with followed(run / _TOLD, progress):
                return _train(ray, shop, run, workers, failures)

    tries = failures
    while not once(resume) and not (run / "manifest.json").exists():
        if not tries:
            raise DataError(f"{run}: {died(RuntimeError('while they were begun'))}")
        tries, resume = tries - 1, True  # by Ray anew: this one has not let go of the processors
    answer = ended(run, shop)
    assert answer is not None
    return answer


def _train(ray: Any, shop: Shop, run: Path, workers: int, failures: int) -> bool:
    """Have Ray train; False if one died while all were begun, which is the end to Ray."""
    try:
        awaited(_trainer(ray, shop, run, workers, failures).fit)
    except ray.train.TrainingFailedError as error:
        failure = getattr(error, "controller_failure", None)
        if isinstance(failure, ray.exceptions.RayActorError):
            return False
        raise _cause(error, run) from None
    finally:
        shutil.rmtree(run / _RAY, ignore_errors=True)
    return True


def _trainer(ray: Any, shop: Shop, run: Path, workers: int, failures: int) -> Any:
    """Ray Train's description of it all."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    settings, _ = settings_of(shop)
    on_gpu = settings.device.startswith("cuda")
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    return TorchTrainer(
        _work,
        train_loop_config={"shop": shop, "run": run},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=_PATIENCE),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": max(settings.threads, 1)} | ({"GPU": 1} if on_gpu else {}),
        ),
        run_config=RunConfig(
            name=_RAY, storage_path=str(run), failure_config=FailureConfig(max_failures=failures)
        ),
    )


def _work(said: Mapping[str, Any]) -> None:
    """What each process runs."""
    if torch.cuda.is_available():
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    if (said["run"] / "manifest.json").exists():
        return  # a process died after all was done
    group = Group()
    fit(
        said["shop"], said["run"], resume=True, progress=teller(said["run"] / _TOLD, group.rank),
        peers=group,
    )  # fmt: skip


def _cause(error: Exception, run: Path) -> DaogouError:
    """What went wrong in some process, as one process would have said it."""
    for each in getattr(error, "worker_failures", {}).values():
        for cause in (each, getattr(each, "cause", None), each.__cause__):
            if isinstance(cause, DaogouError):
                return cause
    return DataError(f"{run}: {died(error)}")

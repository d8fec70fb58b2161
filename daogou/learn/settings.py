"""``[fit]`` and ``[model]`` of a shop.toml to checked settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from daogou.balance import BALANCERS, Balancer
from daogou.balance.base import GIVEN as BALANCERS_GIVEN
from daogou.config import arguments, make
from daogou.errors import ConfigError, unknown
from daogou.features.subwords import open_subwords
from daogou.learn.calibrate import METHODS
from daogou.learn.machine import DEVICES, device_of
from daogou.learn.sampling import SAMPLINGS
from daogou.learn.track import TRACKS, check_track
from daogou.model.build import PRECISIONS, SIZES, Shape
from daogou.model.mixers import MIXERS
from daogou.model.mixers.base import GIVEN
from daogou.schema import Shop
from daogou.tables.check import CHECKS


@dataclass(frozen=True)
class Settings:
    """What ``[fit]`` may say."""

    epochs: int = 10
    pretrain_epochs: int = 0  # passes over titles in which the text encoder guesses hidden words
    patience: int = 3  # epochs without a better joint score before training stops
    checkpoint_minutes: float = 10.0  # between checkpoints within an epoch; 0 = after epochs alone
    rows_per_step: int = 2048
    learning_rate: float = 0.002  # AdamW, dense layers
    encoder_learning_rate: float = 2e-5  # AdamW, the weights of a tuned text.encoder
    row_learning_rate: float = 0.2  # row-wise Adagrad, tables
    weight_decay: float = 0.01  # AdamW
    row_l2: float = 0.0  # pull on touched rows, divided by how often each was touched
    l1: float = 0.0  # lambda * Omega on dense weights: l1 * sum |w| + l2 / 2 * sum w^2
    l2: float = 0.0
    clip: float = 5.0  # largest norm of the dense gradient
    history_length: int = 50
    extra_items: int = 256  # drawn evenly from the catalogue into each batch, for matching
    titles_per_step: int = 32  # in a shop of titles alone
    title_passes: float = 8.0  # how often an epoch of exposures sees each annotated title
    profile_passes: float = 4.0  # how often an epoch of exposures sees each user's known profile
    sampling: str = "joint"  # which families a step teaches: one of SAMPLINGS
    sampling_power: float = 0.5  # 0 = as many steps for each family, 1 = by its rows
    balancer: str = "fixed"
    balancer_options: Mapping[str, Any] | None = None  # further arguments of the balancer
    gram_every: int = 10  # steps between Grams, for balancers that ask for one
    calibration: str = "platt"  # by the validation split, when trained: none, platt or isotonic
    watch: str = "joint"  # "joint", or a task's name: whose validation loss picks the epoch
    refit: bool | None = None  # teach the validation rows too once they have chosen; None = auto
    onward_pace: float = 0.25  # of the learning rates, where a fit goes on from a run
    onward_half_life_days: float = 0.0  # what earlier exposures count for halves; 0 = never
    onward_replay: float = 0.0  # share of the days before that teach once more
    min_count: int = 1  # an id or category seen less often in training is unknown
    buckets: int = 32  # quantiles of a number
    text_length: int = 0  # tokens of a title; 0 = what 99 % of the training titles need
    word_count: int = 2  # a word in fewer distinct training titles is read by its letters alone
    device: str = "auto"  # auto, cpu or cuda
    threads: int = 1  # of torch; small layers gain nothing from more; 0 leaves it alone
    memory_limit: str = "2GB"  # of DuckDB
    waive: tuple[str, ...] = ()  # names of failed checks that may pass
    track: str = "none"  # who else hears of each epoch: one of TRACKS
    track_to: str = ""  # TensorBoard's folder or MLflow's address; "" = into the run


def settings_of(shop: Shop) -> tuple[Settings, Shape]:
    """``[fit]`` and ``[model]``, checked; every problem at once."""
    problems: list[str] = []
    settings, shape = Settings(), Shape()
    try:
        settings = make("fit", Settings, shop.fit)
    except ConfigError as error:
        problems.append(str(error))
    try:
        shape = make("model", Shape, shop.model)
    except ConfigError as error:
        problems.append(str(error))
    if shape.mixer not in MIXERS:
        problems.append(f"model.mixer: {unknown(shape.mixer, MIXERS)}")
    elif shape.mixer_options:
        try:
            arguments("model.mixer_options", MIXERS[shape.mixer], shape.mixer_options, given=GIVEN)
        except ConfigError as error:
            problems.append(str(error))
    problems += _unknown_words(shop, settings, shape) or _missing(shop, settings)
    if settings.refit and settings.sampling == "stop_and_go":
        problems.append(
            "fit.refit: stop_and_go asks validation, which teaches then; leave one of them out"
        )
    problems += [
        f"fit.waive: {unknown(name, CHECKS)}" for name in settings.waive if name not in CHECKS
    ]
    problems += _out_of_range("fit", settings) + _out_of_range("model", shape)
    if problems:
        raise ConfigError("\n".join(problems))
    return settings, shape


def refits(shop: Shop, settings: Settings) -> bool:
    """Whether the rows that choose teach in the end: as ``fit.refit`` says, else of titles alone.

    Titles are split by chance, so that those that choose are like any others, and labels are dear.
    """
    if settings.refit is not None:
        return settings.refit
    return shop.events is None and settings.sampling != "stop_and_go"


def _unknown_words(shop: Shop, settings: Settings, shape: Shape) -> list[str]:
    """Settings that are none of the words they may be."""
    named = (
        ("fit.balancer", settings.balancer, BALANCERS),
        ("fit.calibration", settings.calibration, METHODS),
        ("fit.device", settings.device, DEVICES),
        ("fit.sampling", settings.sampling, SAMPLINGS),
        ("fit.track", settings.track, TRACKS),
        ("model.precision", shape.precision, PRECISIONS),
        ("fit.watch", settings.watch, ["joint", *(task.name for task in shop.tasks)]),
    )
    return [f"{key}: {unknown(word, words)}" for key, word, words in named if word not in words]


def balancer_of(settings: Settings, n_tasks: int) -> Balancer:
    """Who weighs the funnel's ``n_tasks`` tasks."""
    maker = BALANCERS[settings.balancer]
    options = arguments(
        "fit.balancer_options", maker, settings.balancer_options or {}, given=BALANCERS_GIVEN
    )
    return maker(max(n_tasks, 1), **options)


def _missing(shop: Shop, settings: Settings) -> list[str]:
    """What is asked for and not here; said now, and not when all tables are read."""
    problems = []
    n_funnel = len(shop.of_family("funnel"))
    for ask in (
        lambda: balancer_of(settings, n_funnel),
        lambda: device_of(settings.device),
        lambda: open_subwords(shop),
    ):
        try:
            ask()
        except ConfigError as error:
            problems.append(str(error))
    if shop.text.encoder and not (shop.items and shop.items.text):
        problems.append("text.encoder: there is no title to read; name columns in items.text")
    if shop.text.encoder and settings.pretrain_epochs:
        problems.append("fit.pretrain_epochs: text.encoder has read already; leave one of them out")
    if not problems:
        check_track(settings.track)
    return problems


_FROM_ONE: Final = frozenset(
    [
        "epochs",
        "rows_per_step",
        "titles_per_step",
        "history_length",
        "gram_every",
        "min_count",
        "text_width",
        "tower",
    ]
)
_SHARES: Final = frozenset(("dropout", "id_dropout", "event_dropout", "onward_replay"))


def _out_of_range(where: str, given: Settings | Shape) -> list[str]:
    """What is wrong with the numbers of a section: no number of either may be negative."""
    problems: list[str] = []
    for name, value in vars(given).items():
        if not isinstance(value, int | float):
            continue
        if name in _SHARES and not 0 <= value < 1:
            problems.append(f"{where}.{name}: {value}; give a share from 0 up to 1")
        elif name in _FROM_ONE and value < 1:
            problems.append(f"{where}.{name}: {value}; give 1 or more")
        elif not 0 <= value < float("inf"):
            problems.append(f"{where}.{name}: {value}; give 0 or more")
    if isinstance(given, Shape) and any(width < 1 for width in given.expert_widths):
        problems.append(f"{where}.expert_widths: {given.expert_widths}; give 1 or more each")
    if isinstance(given, Settings) and given.sampling_power > 1:
        problems.append(f"{where}.sampling_power: {given.sampling_power}; give a share from 0 to 1")
    if isinstance(given, Shape) and given.size not in SIZES:
        problems.append(f"{where}.size: {unknown(given.size, SIZES)}")
    return problems

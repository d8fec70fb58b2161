"""Differences between two models, per seed and per draw of users, to a verdict.

Two lucks move a difference: which seeds trained the models, and which users the test split
holds. A verdict needs both: seeds alone say how a training recipe varies on these users, users
alone how these very weights would do on others.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from daogou.errors import DataError
from daogou.metrics.binary import Floats
from daogou.metrics.interval import LEVEL, standard_error

Verdict = Literal["HELPS", "NEUTRAL", "HURTS", "UNDECIDED"]

POWER: Final = 0.8  # how often the smallest detectable difference would be seen
_NORMAL: Final = NormalDist()
_AS_NORMAL: Final = 1e6  # degrees from which Student's distribution is the normal one to 6 digits
_MOST_DATA: Final = 1e6  # a test split that many times as large is none to ask for


@dataclass(frozen=True)
class Paired:
    """What a candidate gains over its control, higher being better, and how sure that is.

    ``low`` to ``high`` is the 95 % interval, ``se`` the standard error behind it with its degrees
    of freedom ``df``, made of ``seed_se`` (NaN for one seed: unknown, and so left out) and
    ``test_se``. ``p`` is the chance of a difference as far from 0 where there is none. A true
    ``smallest_detectable`` would have been seen 8 times in 10.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    smallest_detectable: float
    p: float
    seed_se: float
    test_se: float
    n_seeds: int
    test_df: float

    def interval(self, level: float) -> tuple[float, float]:
        """The interval that covers the truth ``level`` of the time; NaN where ``se`` is."""
        if math.isnan(self.se):
            return float("nan"), float("nan")
        reach = student_quantile((1.0 + level) / 2.0, self.df) * self.se
        return self.value - reach, self.value + reach


def combine(
    differences: ArrayLike, replicates: ArrayLike, *, n_groups: int | None = None
) -> Paired:
    """One difference from S paired seeds, ``[S]``, and each seed's ``[S, n]`` under other draws.

    A column of ``replicates`` is one draw of users, the same for every seed. The variance is
    that of the differences over seeds, divided by S, and that of the seeds' mean over draws.
    The little that draws move one seed and not the others is counted in both, so the interval
    errs to the wide side. Degrees of freedom as in Satterthwaite, "An approximate distribution
    of estimates of variance components", Biometrics 1946; those of the draws are ``n - 1``, and
    fewer where ``n_groups``, the number of users, says that these are few. Where seeds matter
    three times as much as users, two of them make the interval cover 89 %, three 93 %, five 95 %.

    NaN in a difference makes everything NaN; a draw with NaN is left out, and over half of them
    make all but the value NaN. Raises DataError if the shapes do not fit, or without seeds.

    >>> found = combine([0.02, 0.04], [[0.01, 0.03], [0.03, 0.05]])
    >>> round(found.value, 4), round(found.seed_se, 4), round(found.test_se, 4), round(found.df, 4)
    (0.03, 0.01, 0.0141, 1.8)
    >>> combine([0.02], [[0.01, 0.03]]).seed_se
    nan
    """
    each = np.asarray(differences, dtype=np.float64)
    drawn = np.asarray(replicates, dtype=np.float64)
    if each.ndim != 1 or not len(each):
        raise DataError(f"differences: shape {list(each.shape)}; give one per seed, one at least")
    if drawn.ndim != 2 or len(drawn) != len(each):
        raise DataError(
            f"replicates: shape {list(drawn.shape)} for {len(each)} seeds; give [seeds, draws]"
        )
    together = drawn.mean(axis=0)
    test_df = max(1.0, float(np.count_nonzero(~np.isnan(together))) - 1.0)
    if n_groups is not None:
        test_df = 1.0 / (1.0 / test_df + 1.0 / max(1, n_groups - 1))
    n_seeds = len(each)
    seed_se = float(np.std(each, ddof=1)) / math.sqrt(n_seeds) if n_seeds > 1 else float("nan")
    test_se = standard_error(together)
    value = float(each.mean())
    se, df = _spread(seed_se, test_se, n_seeds, test_df)
    if math.isnan(value + se):
        nan = float("nan")
        return Paired(value, nan, nan, nan, nan, nan, nan, seed_se, test_se, n_seeds, test_df)
    reach = student_quantile((1.0 + LEVEL) / 2.0, df)
    return Paired(
        value=value,
        low=value - reach * se,
        high=value + reach * se,
        se=se,
        df=df,
        smallest_detectable=(reach + _NORMAL.inv_cdf(POWER)) * se,
        p=_claims(value, se, df, 0.0)[0],
        seed_se=seed_se,
        test_se=test_se,
        n_seeds=n_seeds,
        test_df=test_df,
    )


def verdict(paired: Paired, margin: float, level: float = LEVEL) -> Verdict:
    """Whether the candidate is better, as good or worse, by more than ``margin`` and than luck.

    HELPS and HURTS: the interval leaves 0 out and the difference is at least the margin. NEUTRAL:
    the interval of twice the doubt (90 % for a level of 95 %) lies within the margin, which is
    the two one-sided tests of Schuirmann, "A comparison of the two one-sided tests procedure and
    the power approach for assessing the equivalence of average bioavailability", 1987. UNDECIDED
    otherwise, and where the difference or its error is NaN.

    Raises DataError for a margin below 0, and a level that is not between 0.5 and 1.

    >>> draws = [[0.019, 0.020, 0.021, 0.020]]
    >>> verdict(combine([0.02], draws), margin=0.001)
    'HELPS'
    >>> verdict(combine([0.02], draws), margin=0.03)
    'NEUTRAL'
    """
    return verdicts({"": paired}, margin, level)[""]


def verdicts(
    found: Mapping[str, Paired], margin: float | Mapping[str, float], level: float = LEVEL
) -> dict[str, Verdict]:
    """`verdict` of many tasks or slices, together wrong no more often than one alone.

    Holm's correction is made among the claims of a difference, and among those of none.
    ``margin`` is one for all, or one per name. Raises DataError as `verdict`.

    >>> one = combine([0.02], [[0.01, 0.02, 0.03, 0.02]])  # p = 0.09
    >>> none = combine([0.0], [[-0.01, 0.0, 0.01, 0.0]])
    >>> verdicts({"click": one}, 0.01, level=0.9)
    {'click': 'HELPS'}
    >>> verdicts({"click": one, "buy": none}, 0.01, level=0.9)  # twice 0.09, to be true to both
    {'click': 'UNDECIDED', 'buy': 'UNDECIDED'}
    """
    doubt = _doubt(level)
    margins = {
        name: _checked(margin[name] if isinstance(margin, Mapping) else margin, name)
        for name in found
    }
    apart = holm([paired.p for paired in found.values()])
    alike = holm([_p_alike(paired, margins[name]) for name, paired in found.items()])
    return {
        name: _decided(paired.value, margins[name], p_apart <= doubt, p_alike <= doubt)
        for (name, paired), p_apart, p_alike in zip(found.items(), apart, alike, strict=True)
    }


def holm(p_values: ArrayLike) -> Floats:
    """P values ``[n]``, raised so that the chance of any false claim among them stays the level.

    Holm, "A simple sequentially rejective multiple test procedure", 1979: the smallest is
    multiplied by n, the next by n - 1, none is less than one before it. NaN is no claim: it stays
    NaN and is not counted. Raises DataError outside 0 to 1, or if not a row.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise DataError(f"p values: shape {list(p.shape)}; give one row of them")
    if (p < 0.0).any() or (p > 1.0).any():
        raise DataError(f"p values: {p.min()} to {p.max()}; give chances from 0 to 1")
    raised = np.full(len(p), np.nan)
    claims = np.flatnonzero(~np.isnan(p))
    order = claims[np.argsort(p[claims], kind="stable")]
    times = np.arange(len(order), 0, -1)
    raised[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * times))
    return raised


def more_positives(
    paired: Paired, positives: int, margin: float, level: float = LEVEL
) -> int | None:
    """How many more test positives would decide, were the difference to stay what it is.

    The variance over draws of users falls as one over the positives, that over seeds does not.
    None where nothing is needed, or where a million times as many would not do: seeds differ
    too much (train more of them), or the difference sits on the margin. Among n tasks that
    `verdicts` decides together, ask for level ``1 - 0.05 / n``, which is enough whatever the
    others do. Raises DataError as `verdict`.

    >>> one = combine([0.02], [[0.01, 0.02, 0.03, 0.02]])  # needs 3.18 errors, each 0.0082
    >>> more_positives(one, positives=100, margin=0.001)  # (3.18 * 0.0082 / 0.02)**2 is 1.69
    69
    """
    doubt = _doubt(level)
    _checked(margin)
    if positives < 1 or math.isnan(paired.value + paired.se):
        return None

    def is_decided(total: float) -> bool:
        test_se = paired.test_se * math.sqrt(positives / total)
        se, df = _spread(paired.seed_se, test_se, paired.n_seeds, paired.test_df)
        p_apart, p_alike = _claims(paired.value, se, df, margin)
        said = _decided(paired.value, margin, p_apart <= doubt, p_alike <= doubt)
        return said != "UNDECIDED"

    if is_decided(positives):
        return None
    # Degrees of freedom fall as seeds come to matter most, so that a larger split can decide
    # less; the first that decides is looked for, step by step.
    below = positives
    for total in (positives * np.geomspace(1.0, _MOST_DATA, 121)[1:]).astype(int).tolist():
        if is_decided(total):
            break
        below = total
    else:
        return None
    while total - below > 1:
        middle = (below + total) // 2
        below, total = (below, middle) if is_decided(middle) else (middle, total)
    return int(total) - positives


def delta_m(
    multi: ArrayLike, single: ArrayLike, higher_is_better: ArrayLike, *, of_errors: bool = False
) -> float:
    """How much better the tasks ``[T]`` of one model are than single-task ones, mean of percents.

    Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019. With ``of_errors`` a
    metric that is better higher and 1 at best counts as the error ``1 - M`` it leaves: of an AUC
    of 0.98 the way to 0.99 is half of what was left, and 1 % of the AUC. A negative metric is
    compared with its size. NaN without tasks, and where a single-task value is 0 or NaN.

    Raises DataError if the three are not rows of equal length.

    >>> round(delta_m([0.66, 0.45], [0.60, 0.50], [True, False]), 6)  # +10 % and +10 %
    10.0
    >>> round(delta_m([0.99], [0.98], [True], of_errors=True), 6)
    50.0
    """
    ours = np.asarray(multi, dtype=np.float64)
    theirs = np.asarray(single, dtype=np.float64)
    up = np.asarray(higher_is_better, dtype=np.bool_)
    if ours.ndim != 1 or not ours.shape == theirs.shape == up.shape:
        raise DataError(
            f"delta_m: shapes {list(ours.shape)}, {list(theirs.shape)} and {list(up.shape)}; "
            "give one value per task in each"
        )
    if of_errors:
        ours, theirs = np.where(up, 1.0 - ours, ours), np.where(up, 1.0 - theirs, theirs)
        up = np.zeros_like(up)
    if not len(ours) or (theirs == 0.0).any():
        return float("nan")
    return float(np.mean(np.where(up, 1, -1) * (ours - theirs) / np.abs(theirs)) * 100.0)


def student_quantile(p: float, df: float) -> float:
    """What Student's t with ``df`` degrees of freedom stays below with chance ``p``.

    Infinite degrees give the normal quantile. Raises DataError unless 0 < p < 1 and df > 0.

    >>> round(student_quantile(0.975, 4), 4), round(student_quantile(0.1, float("inf")), 4)
    (2.7764, -1.2816)
    """
    if not (0.0 < p < 1.0 and df > 0.0):
        raise DataError(f"student_quantile: p {p} with {df} degrees; give 0 < p < 1 and df > 0")
    if df >= _AS_NORMAL or p == 0.5:
        return _NORMAL.inv_cdf(p)
    tail = min(p, 1.0 - p)
    low = -_NORMAL.inv_cdf(tail)  # Student's tails are the heavier ones
    high = 2.0 * low
    while _above(high, df) > tail:
        low, high = high, 2.0 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if _above(middle, df) > tail else (low, middle)
    return math.copysign(high, p - 0.5)


# ---- what verdicts are made of ---------------------------------------------------------


def _doubt(level: float) -> float:
    if not 0.5 < level < 1.0:
        raise DataError(f"level: {level}; give one between 0.5 and 1, as 0.95")
    return 1.0 - level


def _checked(margin: float, name: str = "") -> float:
    if not margin >= 0.0:
        raise DataError(f"margin{f' of {name}' if name else ''}: {margin}; give 0 or more")
    return margin


def _decided(value: float, margin: float, is_apart: bool, is_alike: bool) -> Verdict:
    """The word for claims that hold; False where they do not, or are NaN."""
    if is_apart and abs(value) >= margin and value != 0.0:
        return "HELPS" if value > 0.0 else "HURTS"
    return "NEUTRAL" if is_alike else "UNDECIDED"


def _p_alike(paired: Paired, margin: float) -> float:
    return _claims(paired.value, paired.se, paired.df, margin)[1]


def _claims(value: float, se: float, df: float, margin: float) -> tuple[float, float]:
    """P values of a difference, against none; and of none beyond the margin, against one."""
    if math.isnan(value + se):
        return float("nan"), float("nan")
    apart = 2.0 * _above(abs(_in_errors(value, se)), df)
    return apart, _above(_in_errors(margin - abs(value), se), df)


def _spread(seed_se: float, test_se: float, n_seeds: int, test_df: float) -> tuple[float, float]:
    """The standard error of both lucks and its degrees of freedom; one seed tells of the test."""
    if n_seeds == 1:
        return test_se, test_df
    seed, test = seed_se**2, test_se**2
    if seed + test == 0.0:
        return 0.0, math.inf
    return math.sqrt(seed + test), 1.0 / (
        (seed / (seed + test)) ** 2 / (n_seeds - 1) + (test / (seed + test)) ** 2 / test_df
    )


def _in_errors(value: float, se: float) -> float:
    if se == 0.0:
        return math.copysign(math.inf, value) if value else 0.0
    return value / se


def _above(t: float, df: float) -> float:
    """The chance that Student's t is above ``t``, with a small one to full precision."""
    if t < 0.0:
        return 1.0 - _above(-t, df)
    if math.isinf(t) or t == 0.0:
        return 0.0 if t else 0.5
    if df >= _AS_NORMAL:
        return math.erfc(t / math.sqrt(2.0)) / 2.0
    half, square = df / 2.0, t * t / df
    x = 1.0 / (1.0 + square)  # of the incomplete beta function of df / 2 and 1 / 2
    log_front = (
        math.lgamma(half + 0.5)
        - math.lgamma(half)
        - math.lgamma(0.5)
        - (half + 0.5) * math.log1p(square)
        + math.log(t)
        - math.log(df) / 2.0
    )
    front = math.exp(log_front)
    if x < (half + 1.0) / (half + 2.5):
        return front * _beta_fraction(half, 0.5, x) / half / 2.0
    return 0.5 - front * _beta_fraction(0.5, half, square * x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, 8.17.22 in the NIST handbook.

    From the inside out: with ``x`` below its mean, some square root of the larger parameter of
    terms is more than doubles can tell.
    """
    value = 1.0
    for m in range(40 + int(2.0 * math.sqrt(max(a, b))), 0, -1):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1.0 + even / (1.0 + odd / value)
    return 1.0 / (1.0 - (a + b) * x / (a + 1.0) / value)

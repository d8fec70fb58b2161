"""Who buys again is foretold from what lies before the moment, and comes true as often as said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.returning import Returning, signs_of
from daogou.features.rhythm import Rhythm
from daogou.features.store import Store
from daogou.learn.returning import ask, fit_returning, judge_returning
from daogou.schema import DAY_US


@pytest.fixture(scope="module")
def loaded(made_run: Path) -> Artifact:
    return artifact.load(made_run, verify=False)


def planted(loaded: Artifact, n_users: int = 400) -> Store:
    """Half of the users come about every day of a hundred, the others every tenth."""
    rng = np.random.default_rng(0)
    pasts = []
    for user in range(n_users):
        gaps = rng.exponential(1.0 if user % 2 else 10.0, 200)
        times = np.cumsum(gaps)
        pasts.append((times[times < 100] * DAY_US).astype(np.int64))
    start = np.concatenate([[0, 0], np.cumsum([len(past) for past in pasts])])
    time = np.concatenate(pasts)
    arrays = {
        "history/time": time,
        "history/action": np.full(len(time), len(loaded.transform.actions) - 1, dtype=np.int8),
        "users/start": start,
        "exposures/time": (np.linspace(0, 100, 101) * DAY_US).astype(np.int64),
    }
    ranges = {"train": (0, 95), "validation": (95, 98), "test": (98, 101)}
    return replace(loaded.store, arrays={**loaded.store.arrays, **arrays}, ranges=ranges)


def test_signs_by_hand() -> None:
    # Visits on days 0, 2 and 6 (twice within the hour), asked on day 9: silence 3, gaps 2 and 4.
    # Usual: (2 * 4 + 6) / (2 + 2) = 3.5; four events, one of the kind; the first 9 days ago.
    time = np.array([0.0, 2.0, 6.0, 6.01]) * DAY_US
    found = signs_of(
        time.astype(np.int64), np.array([False, True, False, False]), 9 * DAY_US, Rhythm(4.0, 3.0)
    )
    wanted = [2.99, 3.5, 2.99 / 3.5, 4, 1, 9]
    np.testing.assert_allclose(np.expm1(found), wanted, rtol=1e-2)


def test_frequent_users_are_told_from_rare_ones_and_chances_come_true(loaded: Artifact) -> None:
    store = planted(loaded)
    made = fit_returning(store, loaded.transform, history_length=500)
    assert made is not None
    assert made.within_days == pytest.approx(3.0, abs=0.5)
    told = judge_returning(made, store, loaded.transform, history_length=500, seed=0)
    # In 3 days .95 of the frequent and .26 of the rare come, so of those who came .785 are frequent
    # and of those who did not .063: who is which is all but known, and that is worth
    # .785 * .937 + (.785 * .063 + .215 * .937) / 2 = .86.
    assert told["auc"] == pytest.approx(0.86, abs=0.05)
    assert told["log_loss"] < told["constant_log_loss"] - 0.15
    asked = ask(store, loaded.transform, 97 * DAY_US + 1, made.within_days, 500)
    assert made.chance(asked.signs).mean() == pytest.approx(asked.came.mean(), abs=0.08)
    assert Returning.from_json(vars(made)) == made


def test_nothing_after_the_moment_is_read_but_whether_it_came(loaded: Artifact) -> None:
    store = planted(loaded, 50)
    time = np.array(store["history/time"])
    whole = ask(store, loaded.transform, 40 * DAY_US, 5.0, 500)
    time[time >= 40 * DAY_US] += 50 * DAY_US
    later = replace(store, arrays={**store.arrays, "history/time": time})
    cut = ask(later, loaded.transform, 40 * DAY_US, 5.0, 500)
    np.testing.assert_array_equal(whole.signs, cut.signs)
    assert whole.came.any() and not cut.came.any()


def test_too_few_outcomes_teach_nothing(loaded: Artifact) -> None:
    store = planted(loaded, 15)
    assert fit_returning(store, loaded.transform, history_length=500) is None

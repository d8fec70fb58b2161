"""What teaches teaches, what chooses chooses, and nothing else is read."""

from typing import Any

import numpy as np
import pytest

from daogou.learn import learners
from daogou.learn.flat import Inputs
from daogou.learn.learners import Lesson

pytest.importorskip("lightgbm")
pytest.importorskip("sklearn")
N = 1200
TRAIN, CHOOSE, ASK = np.arange(600), np.arange(600, 900), np.arange(900, N)
LEARNERS = (learners.trees, learners.linear)


def inputs_of(seed: int = 0) -> tuple[Inputs, Any]:
    """A number with gaps and a category that both tell of the answer, and one that does not."""
    rng = np.random.default_rng(seed)
    number = rng.normal(size=N)
    kind = rng.integers(0, 4, N)
    noise = rng.normal(size=N)
    logit = 1.5 * number + np.array([0, -2, 0, 2])[kind]
    target = (rng.random(N) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    number[rng.random(N) < 0.05] = np.nan
    values = np.stack([number, kind, noise], axis=1).astype(np.float32)
    return Inputs(values, ("number", "kind", "noise"), (1,)), target


def lesson_of(target: Any, chooses: Any = CHOOSE) -> Lesson:
    return Lesson(target, np.ones(len(target), dtype=np.float32), TRAIN, chooses)


@pytest.mark.parametrize("learn", LEARNERS)
def test_what_tells_of_the_answer_is_learnt(learn: Any) -> None:
    inputs, target = inputs_of()
    chances = learn(inputs, lesson_of(target), ASK)
    up, down = chances[target[ASK] == 1], chances[target[ASK] == 0]
    assert (up[:, None] > down).mean() > 0.85


@pytest.mark.parametrize("learn", LEARNERS)
def test_the_answers_that_are_asked_for_change_nothing(learn: Any) -> None:
    inputs, target = inputs_of()
    chances = learn(inputs, lesson_of(target), ASK)
    turned = target.copy()
    turned[ASK] = 1 - turned[ASK]
    assert np.array_equal(learn(inputs, lesson_of(turned), ASK), chances)


@pytest.mark.parametrize("learn", LEARNERS)
def test_rows_without_an_answer_neither_teach_nor_choose(learn: Any) -> None:
    inputs, target = inputs_of()
    unknown = target.copy()
    unknown[:100] = unknown[600:650] = -1
    fewer = Lesson(target, np.ones(N, dtype=np.float32), TRAIN[100:], CHOOSE[50:])
    expected = learn(inputs, fewer, ASK)
    assert np.array_equal(learn(inputs, lesson_of(unknown), ASK), expected)


@pytest.mark.parametrize("learn", LEARNERS)
def test_without_a_row_to_choose_one_setting_is_taken(learn: Any) -> None:
    inputs, target = inputs_of()
    chances = learn(inputs, lesson_of(target, np.arange(0)), ASK)
    assert chances.shape == ASK.shape
    assert chances[target[ASK] == 1].mean() > chances[target[ASK] == 0].mean() + 0.1


@pytest.mark.parametrize("learn", LEARNERS)
@pytest.mark.parametrize(("answer", "chance"), [(0, 0.0), (1, 1.0), (-1, 0.0)])
def test_one_answer_alone_is_said_to_all(learn: Any, answer: int, chance: float) -> None:
    inputs, target = inputs_of()
    lesson = lesson_of(np.full_like(target, answer))
    assert learn(inputs, lesson, ASK).tolist() == [chance] * len(ASK)


@pytest.mark.parametrize("learn", LEARNERS)
def test_without_a_column_the_weighted_base_rate_is_said(learn: Any) -> None:
    lesson = Lesson(np.array([1, 0, 1]), np.array([1.0, 2.0, 1.0]), np.arange(3), np.arange(0))
    nothing = Inputs(np.zeros((3, 0), dtype=np.float32), (), ())
    assert learn(nothing, lesson, np.arange(2)).tolist() == [0.5, 0.5]


def test_weights_count_so_that_the_mean_chance_is_the_weighted_base_rate() -> None:
    inputs, target = inputs_of()
    weight = np.where(target == 1, 5.0, 1.0)  # the free intercept makes the two equal
    chances = learners.linear(inputs, Lesson(target, weight, TRAIN, np.arange(0)), TRAIN)
    mean = np.average(chances, weights=weight[TRAIN])
    assert mean == pytest.approx(np.average(target[TRAIN], weights=weight[TRAIN]), abs=1e-3)
    assert chances.mean() > target[TRAIN].mean() + 0.1


def test_a_sample_stands_for_all_rows_that_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "_MOST", 100)
    inputs, target = inputs_of()
    rows, factor = learners._thinned(lesson_of(target), np.random.default_rng(0))
    for answer in (0, 1):
        where = target[rows] == answer
        assert where.sum() == 100
        assert factor[where].sum() == pytest.approx((target[TRAIN] == answer).sum())
    chances = [learners.linear(inputs, lesson_of(target), ASK, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(chances[0], chances[1])
    assert not np.array_equal(chances[0], chances[2])
    assert np.corrcoef(chances[0], chances[2])[0, 1] > 0.9


def test_a_category_unseen_in_training_is_unknown() -> None:
    inputs, target = inputs_of()
    said = []
    for code in (0, 9):
        inputs.values[ASK, 1] = code
        said.append(learners.linear(inputs, lesson_of(target), ASK))
    assert np.array_equal(said[0], said[1])


def test_classes_of_users_are_learnt_and_a_class_without_a_teacher_has_no_chance() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 400)
    counts = rng.poisson(1 + 6.0 * np.eye(3)[classes])
    chances = learners.linear_of_users(counts, classes, 4, np.arange(200), np.arange(200, 400))
    assert chances.shape == (200, 4)
    assert np.allclose(chances.sum(1), 1)
    assert (chances[:, 3] == 0).all()
    assert (chances.argmax(1) == classes[200:]).mean() > 0.85


@pytest.mark.parametrize(("teaches", "row"), [([0, 1], [0, 1]), ([], [0.5, 0.5])])
def test_users_of_one_class_or_of_none_leave_nothing_to_learn(
    teaches: list[int], row: list[float]
) -> None:
    found = learners.linear_of_users(
        np.ones((3, 1)), np.ones(3, dtype=int), 2, np.array(teaches, dtype=int), np.arange(3)
    )
    assert found.tolist() == [row] * 3

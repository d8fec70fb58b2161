"""What answers are worth: numbers worked by hand, and the same as the report of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.learn.answers import answers_from, answers_of, chained
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.learn.judge import Question, groups_of, questions, truth_of
from daogou.learn.slices import COLD, fit_slices
from daogou.metrics.interval import replicates
from daogou.schema import Task
from tests.learn.conftest import QUICK
from tests.shops import compile_shop, write_shop

NOWHERE = np.zeros(4, dtype=np.int64)


@pytest.fixture(scope="module")
def run(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A run of all four families."""
    folder = tmp_path_factory.mktemp("judge") / "run"
    fit(read_shop(shop_folder, QUICK), folder)
    return artifact.load(folder)


def asked(kind: str, target: Any, **more: Any) -> Question:
    """A question of four rows, the first two one user's."""
    given: dict[str, Any] = {
        "at": np.arange(4), "rows": np.arange(10, 14), "groups": np.array([0, 0, 1, 2]),
        "weight": np.ones(4), "user": NOWHERE, "item": NOWHERE, "domain": NOWHERE - 1,
    }  # fmt: skip
    return Question("buy", "buy", "auc", kind, target=np.array(target), **(given | more))


def test_an_auc_counts_the_pairs_that_are_in_order() -> None:
    judged = asked("auc", [1, 0, 1, 0]).judge(np.array([0.9, 0.8, 0.3, 0.1]))
    assert judged.value == 0.75  # of four pairs the 0.3 loses to the 0.8
    assert (judged.n, judged.positives, judged.rows.tolist()) == (4, 2, [10, 11, 12, 13])


def test_multipliers_draw_rows_more_than_once_and_not_at_all() -> None:
    judged = asked("auc", [1, 0, 1, 0]).judge(np.array([0.9, 0.8, 0.3, 0.1]))
    # Without the first two rows 0.3 beats 0.1; with the second twice, 3 of 2 * 3 pairs and 1 are
    # won: 0.9 three times, 0.3 once.
    assert judged.statistic(np.array([0.0, 0.0, 1.0, 1.0])) == 1.0
    assert judged.statistic(np.array([1.0, 2.0, 1.0, 1.0])) == pytest.approx(4 / 6)


def test_a_part_of_the_rows_keeps_its_places_in_the_answer() -> None:
    part = asked("auc", [1, 0, 1, 0]).only(np.array([False, True, True, False]))
    judged = part.judge(np.array([0.9, 0.8, 0.3, 0.1]))
    assert (judged.value, judged.n, judged.rows.tolist()) == (0.0, 2, [11, 12])


def test_a_question_without_a_positive_is_undefined_and_says_so() -> None:
    judged = asked("auc", [0, 0, 0, 0]).judge(np.arange(4.0))
    assert np.isnan(judged.value) and judged.positives == 0


def test_weights_of_exposures_count() -> None:
    question = asked("auc", [1, 0, 1, 0], weight=np.array([1.0, 2.0, 1.0, 1.0]))
    assert question.judge(np.array([0.9, 0.8, 0.3, 0.1])).value == pytest.approx(4 / 6)


def test_classes_count_alike_whatever_their_size() -> None:
    # Class 0 of rows 0 and 1 is found without an error, class 1 in 2 of 3 pairs, class 2 in 3 of 3.
    scores = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.3, 0.15, 0.1], [0.1, 0.1, 0.9]])
    judged = asked("classes", [0, 0, 1, 2]).judge(scores)
    assert judged.value == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_the_draws_of_two_answers_are_the_same() -> None:
    question = asked("auc", [1, 0, 1, 0])
    one, other = (question.judge(scores * 1.0) for scores in (np.arange(4), np.arange(4) * 2))
    drawn = [replicates(each.statistic, each.groups, n=20, seed=3) for each in (one, other)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_stages_of_several_models_are_multiplied() -> None:
    tasks = [
        Task("click", "funnel"),
        Task("cart", "funnel", "click"),
        Task("buy", "funnel", "cart"),
        Task("match", "match"),
    ]
    said = {
        "click": np.array([0.5, 0.2]),
        "cart|click": np.array([0.5, 0.5]),
        "buy|cart": np.array([0.1, 1.0]),
        "match": np.array([1.0]),
    }
    found = chained(tasks, said)
    np.testing.assert_allclose(found["cart"], [0.25, 0.1])
    np.testing.assert_allclose(found["buy"], [0.025, 0.1])
    assert "buy" not in chained(tasks, {"buy|cart": said["buy|cart"]})


def test_rows_without_a_key_are_a_group_each() -> None:
    assert groups_of([None, "a", None, "a"]).tolist() == [0, 1, 2, 1]
    assert groups_of([None, None], ["u", "u"]).tolist() == [0, 0]
    assert groups_of(["r", "r"], ["u", "v"]).tolist() == [0, 1]
    assert groups_of(["s", None, "r", "s"], [None, "u", "u", None]).tolist() == [0, 1, 2, 0]
    assert groups_of([]).tolist() == []


def test_every_task_is_judged_as_the_report_of_the_run_has_it(run: Artifact) -> None:
    report = evaluate(run)["tasks"]
    said = answers_of(
        run.model, run.store, run.transform, "test", history_length=run.history_length
    )
    found = questions(run.shop, run.store, run.transform, "test", truth_of(run.shop))
    assert [question.name for question in found] == list(report)
    for question in found:
        entry, judged = report[question.name], question.judge(said[question.name])
        np.testing.assert_allclose(judged.value, entry[question.metric], err_msg=question.name)
        assert judged.n == entry["n"]
        if question.ceiling is not None:
            ceiling = question.judge(question.ceiling).value
            np.testing.assert_allclose(ceiling, entry[f"ceiling_{question.metric}"])


def test_only_the_families_that_are_asked_answer(run: Artifact) -> None:
    said = answers_of(
        run.model, run.store, run.transform, "test",
        history_length=run.history_length, families={"match"},
    )  # fmt: skip
    assert list(said) == ["match"]


def test_other_methods_answer_in_scores_of_the_catalogue_and_in_spans(run: Artifact) -> None:
    shop, store = run.shop, run.store
    found = {each.name: each for each in questions(shop, store, run.transform, "test")}
    n_users, n_titles = len(found["match"].at), len(found["extract"].at)
    said = answers_from(
        {
            "match": [np.zeros((n_users, store.n_items))],
            "extract": [[] for _ in range(n_titles)],
            "click": np.zeros(3),
        },
        shop, store, "test",
    )  # fmt: skip
    # Of 40 products all are among the first 50; nothing said is nothing found.
    assert found["match"].judge(said["match"]).value == 1.0
    assert found["extract"].judge(said["extract"]).value == 0.0
    assert found["extract"].positives == said["extract"][:, 2].sum() > 0


def test_slices_are_cut_by_what_training_saw(tmp_path: Path) -> None:
    shop = write_shop(tmp_path)
    transform, store = compile_shop(shop)
    slices = fit_slices(store, transform)
    # Nobody has five events by the end of training, no product five exposures.
    assert COLD == 5 and slices.cold_user.all() and slices.cold_item.all()
    # Products 10 and 11 have two of five training exposures each and 12 has one: the first has
    # less than half, so that the second belongs to the head too.
    rows = [store.item_rows[key] for key in ("10", "11", "12", "13")]
    assert slices.head[rows].tolist() == [True, True, False, False]
    # Less than two is one and none, and the first has 30 % by itself.
    other = fit_slices(store, transform, cold=2, head=0.3)
    assert other.cold_item[rows].tolist() == [False, False, True, True]
    assert other.head[rows].tolist() == [True, False, False, False]
    found = {each.name: each for each in questions(shop, store, transform, "test")}
    assert slices.of(found["click"]) == {}  # a slice of all rows, or of none, says nothing new


def test_a_slice_of_domains_is_named_by_the_shop(tmp_path: Path) -> None:
    toml = write_shop(tmp_path / "plain").root.joinpath("shop.toml").read_text("utf-8")
    toml = toml.replace('context = ["device", "position"]',
                        'context = ["device", "position"]\ndomain = "device"')  # fmt: skip
    shop = write_shop(tmp_path / "domains", toml=toml)
    transform, store = compile_shop(shop)
    found = {each.name: each for each in questions(shop, store, transform, "test")}
    cut = fit_slices(store, transform).of(found["click"])
    # The test has a phone and a watch; training has not seen the watch, so it has no name.
    assert list(cut) == ["domain phone"] and cut["domain phone"].sum() == 1

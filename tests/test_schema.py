"""Which tasks a shop's tables allow, and every way to describe a table wrongly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import ConfigError
from daogou.schema import FAMILIES, Events, Items, Shop, Task, TaskSetting, Users
from daogou.schema.check import check_shop
from daogou.schema.find import DEFAULT_WEIGHTS, find_tasks

ITEMS = Items("i.parquet", "item_id", text=("title",), attributes=("colour",), spans="spans")
USERS = Users("u.parquet", "user_id", columns=("city",), profile=("gender", "age"))
LOG = Events(
    "e.parquet",
    user="user_id",
    item="item_id",
    time="ts",
    kind="event",
    funnel=("shown", "click", "cart", "buy"),
)
WIDE = Events("e.parquet", labels=("click", "buy"), context=("scene",))


def named(tasks: tuple[Task, ...]) -> dict[str, tuple[str, str | None, float]]:
    return {task.name: (task.family, task.given, task.weight) for task in tasks}


def test_three_tables_allow_every_task_and_lack_none() -> None:
    tasks, absent = find_tasks(ITEMS, USERS, LOG, {})
    assert named(tasks) == {
        "click": ("funnel", None, 1.0),
        "cart": ("funnel", "click", 1.0),
        "buy": ("funnel", "cart", 1.0),
        "match": ("match", None, 0.3),
        "profile.gender": ("profile", None, 0.1),
        "profile.age": ("profile", None, 0.1),
        "extract": ("extract", None, 1.0),
    }
    assert absent == {}


def test_a_wide_table_has_independent_labels() -> None:
    tasks, absent = find_tasks(None, None, WIDE, {})
    assert named(tasks) == {"click": ("funnel", None, 1.0), "buy": ("funnel", None, 1.0)}
    assert absent == {
        "match": "[events] needs user, item and a funnel or labels",
        "profile": "[events] needs user, item and time: profiles read behaviour",
        "extract": "[items] needs text and attributes",
    }


def test_a_wide_table_can_say_which_label_comes_first() -> None:
    tasks, _ = find_tasks(None, None, WIDE, {"buy": TaskSetting(given="click")})
    assert named(tasks)["buy"] == ("funnel", "click", 1.0)


def test_titles_alone_make_an_extraction_shop() -> None:
    tasks, absent = find_tasks(ITEMS, None, None, {})
    assert [task.name for task in tasks] == ["extract"]
    assert set(absent) == {"funnel", "match", "profile"}
    assert set(absent.values()) == {"there is no [events] table"}


def test_users_without_behaviour_have_no_profile_task() -> None:
    _, absent = find_tasks(None, USERS, replace(LOG, user=None), {})
    assert absent["profile"].startswith("[events] needs user, item and time")


def test_an_events_table_that_names_no_stage_teaches_nothing() -> None:
    tasks, absent = find_tasks(None, None, Events("e.parquet", user="u", item="i"), {})
    assert tasks == ()
    assert absent["funnel"] == "[events] names no funnel and no labels"


def test_every_family_has_a_task_or_a_reason() -> None:
    for items in (None, ITEMS):
        for users in (None, USERS):
            for events in (None, LOG, WIDE):
                tasks, absent = find_tasks(items, users, events, {})
                assert {task.family for task in tasks} | set(absent) == set(FAMILIES)
                assert not {task.family for task in tasks} & set(absent)


def test_a_marginal_task_has_no_stage_before_it() -> None:
    tasks, _ = find_tasks(None, None, LOG, {"buy": TaskSetting(loss="marginal")})
    assert named(tasks)["buy"] == ("funnel", None, 1.0)
    assert named(tasks)["cart"] == ("funnel", "click", 1.0)


def test_a_task_can_be_switched_off_and_weighed() -> None:
    settings = {"match": TaskSetting(enabled=False), "extract": TaskSetting(weight=0.0)}
    tasks, _ = find_tasks(ITEMS, USERS, LOG, settings)
    assert "match" not in named(tasks)
    assert named(tasks)["extract"][2] == 0.0


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("purchse", TaskSetting(), r"tasks\.purchse: no 'purchse' here"),
        ("buy", TaskSetting(loss="marginl"), r"buy\.loss: .*did you mean 'marginal'"),
        ("buy", TaskSetting(weight=-1.0), r"tasks\.buy\.weight: -1\.0; give a finite number, 0 or"),
        ("buy", TaskSetting(weight=float("nan")), r"tasks\.buy\.weight: nan; give a finite"),
        ("buy", TaskSetting(weight=float("inf")), r"tasks\.buy\.weight: inf; give a finite"),
        ("click", TaskSetting(given="buy"), r"tasks\.click\.given: no 'buy' here; known: none"),
        ("buy", TaskSetting(given="buy"), r"tasks\.buy\.given: no 'buy' here; known: cart, click"),
        ("match", TaskSetting(given="click"), r"tasks\.match\.given: no 'click' here"),
    ],
)
def test_a_wrong_task_setting_is_named(name: str, setting: TaskSetting, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_tasks(ITEMS, USERS, LOG, {name: setting})


def test_all_wrong_task_settings_are_named_at_once() -> None:
    settings = {
        "clik": TaskSetting(),
        "buy": TaskSetting(weight=-2.0),
        "cart": TaskSetting(loss=""),
    }
    with pytest.raises(ConfigError) as caught:
        find_tasks(ITEMS, USERS, LOG, settings)
    assert len(str(caught.value).split("\n")) == 3


CASES: list[tuple[Items | None, Users | None, Events | None, str]] = [
    (None, None, None, "no table: give at least one of [items], [users], [events]"),
    (None, None, replace(LOG, labels=("a",)), "events: give funnel (a log) or labels"),
    (None, None, Events("e.parquet"), "events: give funnel = [...] with kind = ..., or labels"),
    (None, None, replace(LOG, kind=None), "events.kind: a funnel needs it; name the column"),
    (None, None, replace(LOG, user=None), "events.user: a funnel needs it"),
    (None, None, replace(LOG, item=None), "events.item: a funnel needs it"),
    (None, None, replace(LOG, time=None), "events.time: a funnel needs it"),
    (None, None, replace(LOG, funnel=("shown",)), "events.funnel: needs an exposure and at least"),
    (None, None, replace(LOG, window_h={"clik": 1.0}), "events.window_h.clik: no 'clik' here (did"),
    (None, None, replace(LOG, window_h={"shown": 1.0}), "events.window_h.shown: no 'shown' here"),
    (None, None, replace(LOG, window_h={"buy": 0.0}), "events.window_h.buy: 0.0 hours; a window"),
    (None, None, replace(LOG, window_h={"buy": float("nan")}), "window_h.buy: nan hours; a window"),
    (None, None, replace(LOG, window_h={"buy": float("inf")}), "window_h.buy: inf hours; a window"),
    (None, None, replace(LOG, funnel=("shown", "buy", "buy")), "events: 'buy' is listed twice"),
    (None, None, replace(WIDE, labels=("a", "match")), "events: 'match' is the name of a task"),
    (
        None,
        None,
        replace(WIDE, context=("buy",)),
        "events.context: 'buy' is also a label; an input",
    ),
    (None, None, replace(WIDE, domain="scen"), "events.domain: no 'scen' here (did you mean 'sc"),
    (None, None, replace(WIDE, position="place"), "events.position: no 'place' here; known: scene"),
    (None, None, replace(LOG, position="place"), "known: none; list it in events.context too"),
    (
        None,
        None,
        replace(WIDE, domain="scene", position="scene"),
        "events.domain: 'scene' is also events.position; it is one",
    ),
    (None, None, replace(LOG, funnel=("shown", "Buy", "buy")), "'Buy' and 'buy' differ in nothing"),
    (None, None, replace(LOG, funnel=("shown", "")), "events: a stage has no name; take ''"),
    (
        None,
        None,
        replace(LOG, value=LOG.kind),
        "is also events.kind; name another column, or leave",
    ),
    (
        None,
        None,
        replace(LOG, weight=LOG.user),
        "is also events.user; name another column, or leave",
    ),
    (None, None, replace(LOG, time=LOG.item), "is also events.item; name another column, or leave"),
    (None, None, replace(LOG, request="x", split="x"), "events.request: 'x' is also events"),
    (None, replace(USERS, columns=("age",)), None, "users.columns: 'age' is also in users.profile"),
    (replace(ITEMS, text=()), None, None, "items.spans: they point into a title; name its"),
    (replace(ITEMS, attributes=()), None, None, "items.attributes: list the attributes"),
    (replace(ITEMS, spans=None, annotated="a"), None, None, "items.annotated: says which spans"),
]


@pytest.mark.parametrize(("items", "users", "events", "message"), CASES, ids=lambda case: str(case))
def test_a_wrong_description_is_said_in_one_sentence(
    items: Items | None, users: Users | None, events: Events | None, message: str
) -> None:
    problems = check_shop(items, users, events)
    assert len(problems) == 1
    assert message in problems[0]


def test_a_right_description_has_no_problem() -> None:
    assert check_shop(ITEMS, USERS, LOG) == []
    assert check_shop(ITEMS, None, None) == []
    assert check_shop(None, None, WIDE) == []


def test_a_key_may_also_name_the_request_and_the_exposure() -> None:
    """Of a log with one user a visit, or one row a product."""
    assert check_shop(None, None, replace(LOG, request=LOG.user)) == []
    assert check_shop(None, None, replace(WIDE, item="i", id="i")) == []


def test_all_wrong_descriptions_are_said_at_once() -> None:
    events = replace(LOG, user=None, time=None, window_h={"buy": -1.0})
    assert len(check_shop(replace(ITEMS, text=()), replace(USERS, columns=("age",)), events)) == 5


def test_a_window_is_a_day_unless_the_shop_says_otherwise() -> None:
    events = replace(LOG, window_h={"click": 2})
    assert events.window_of("click") == 2.0
    assert events.window_of("buy") == 24.0


def test_a_history_is_of_the_stages_unless_the_shop_names_kinds() -> None:
    assert LOG.history_kinds == ("click", "cart", "buy")
    assert replace(LOG, history=("view",)).history_kinds == ("view",)
    assert WIDE.history_kinds == ()


def test_an_unknown_task_is_named_with_the_nearest() -> None:
    shop = Shop(Path(), tasks=(Task("click", "funnel"), Task("match", "match")))
    assert shop.task("match").family == "match"
    assert [task.name for task in shop.of_family("funnel")] == ["click"]
    with pytest.raises(ConfigError, match=r"tasks\.clik: .*did you mean 'click'"):
        shop.task("clik")


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
def test_each_stage_is_given_the_one_before_it(stages: list[str]) -> None:
    events = replace(LOG, funnel=("shown", *stages))
    tasks, _ = find_tasks(None, None, events, {})
    funnel = [(task.name, task.given) for task in tasks if task.family == "funnel"]
    assert funnel == list(zip(stages, [None, *stages], strict=False))


def test_every_family_has_a_weight() -> None:
    assert set(DEFAULT_WEIGHTS) == set(FAMILIES)


def test_a_stage_after_one_that_is_switched_off_is_conditional_on_the_one_before() -> None:
    funnel = ("shown", "click", "cart", "buy")
    events = Events("e.parquet", "user", "item", "ts", "kind", funnel)
    tasks, _ = find_tasks(None, None, events, {"cart": TaskSetting(enabled=False)})
    given = {task.name: task.given for task in tasks if task.family == "funnel"}
    assert given == {"click": None, "buy": "click"}


def test_a_condition_that_is_switched_off_is_refused_by_name() -> None:
    funnel = ("shown", "click", "cart", "buy")
    events = Events("e.parquet", "user", "item", "ts", "kind", funnel)
    settings = {"cart": TaskSetting(enabled=False), "buy": TaskSetting(given="cart")}
    with pytest.raises(ConfigError, match=r"tasks\.buy\.given: 'cart' is switched off"):
        find_tasks(None, None, events, settings)


PAID = replace(LOG, value="amount")
WATCHED = replace(WIDE, value="seconds")


def test_a_value_is_one_more_task_learnt_where_the_last_stage_happened() -> None:
    tasks, _ = find_tasks(None, None, PAID, {})
    assert [(task.name, task.given, task.loss) for task in tasks[2:4]] == [
        ("buy", "cart", "conditional"),
        ("value", "buy", "lognormal"),
    ]
    assert [task.name for task in tasks if task.is_value] == ["value"]


def test_a_wide_table_s_value_is_known_everywhere_unless_given_says_otherwise() -> None:
    tasks, _ = find_tasks(None, None, WATCHED, {})
    assert named(tasks)["value"] == ("funnel", None, 1.0)
    given, _ = find_tasks(None, None, WATCHED, {"value": TaskSetting(given="buy")})
    assert named(given)["value"][1] == "buy"


ZEROS = TaskSetting(loss="zero_inflated")


def test_a_value_moves_to_the_stage_before_one_that_is_switched_off() -> None:
    off = {"buy": TaskSetting(enabled=False), "value": ZEROS}
    assert named(find_tasks(None, None, PAID, off)[0])["value"][1] == "cart"


@pytest.mark.parametrize("stage", ["click", "cart"])
def test_what_an_earlier_stage_of_a_log_is_worth_is_often_0_and_needs_a_loss_for_it(
    stage: str,
) -> None:
    why = rf"tasks\.value\.loss: .* where '{stage}' happened and 'buy' did not, .*zero_inflated"
    with pytest.raises(ConfigError, match=why):
        find_tasks(None, None, PAID, {"value": TaskSetting(given=stage)})
    tasks, _ = find_tasks(None, None, PAID, {"value": replace(ZEROS, given=stage)})
    assert named(tasks)["value"][1] == stage
    # A wide table's amounts of 0 are written by whoever made it.
    assert find_tasks(None, None, WATCHED, {"value": TaskSetting(given="click")})


def test_a_value_of_all_exposures_of_a_log_needs_it_too() -> None:
    off = {name: TaskSetting(enabled=False) for name in ("click", "cart", "buy")}
    with pytest.raises(ConfigError, match=r"tasks\.value\.loss: .* where no 'buy' came"):
        find_tasks(None, None, PAID, off)
    assert named(find_tasks(None, None, PAID, off | {"value": ZEROS})[0])["value"][1] is None


@pytest.mark.parametrize(
    ("name", "loss"), [("value", "conditional"), ("buy", "lognormal"), ("value", "esmm")]
)
def test_amounts_and_chances_do_not_lend_each_other_their_losses(name: str, loss: str) -> None:
    with pytest.raises(ConfigError, match=rf"tasks\.{name}\.loss: no '{loss}' here"):
        find_tasks(None, None, PAID, {name: TaskSetting(loss=loss)})


def test_an_order_and_a_list_are_losses_of_profiles_alone() -> None:
    tasks, _ = find_tasks(ITEMS, USERS, LOG, {"profile.age": TaskSetting(loss="ordinal")})
    assert [task.loss for task in tasks if task.family == "profile"] == ["categorical", "ordinal"]
    with pytest.raises(ConfigError, match=r"tasks\.click\.loss: no 'ordinal' here"):
        find_tasks(ITEMS, USERS, LOG, {"click": TaskSetting(loss="ordinal")})


def test_an_order_is_for_ordinal_profiles_and_names_each_class_once() -> None:
    def profile(**settings: Any) -> Task:
        given = {"profile.age": TaskSetting(**settings)}
        return next(task for task in find_tasks(ITEMS, USERS, LOG, given)[0] if task.name in given)

    assert profile(loss="ordinal", order=("low", "high")).order == ("low", "high")
    with pytest.raises(ConfigError, match=r"tasks\.profile\.age\.order: 'categorical' asks for no"):
        profile(order=("low", "high"))
    with pytest.raises(ConfigError, match=r"tasks\.profile\.age\.order: 'low' is listed twice"):
        profile(loss="ordinal", order=("low", "high", "low"))


def test_a_value_that_is_an_input_or_a_label_is_refused() -> None:
    (problem,) = check_shop(None, None, replace(PAID, context=("amount",)))
    assert problem.startswith("events.value: 'amount' is also in events.context; an amount that")
    (problem,) = check_shop(None, None, replace(WIDE, value="buy"))
    assert problem.startswith("events.value: 'buy' is also in events.labels")


def test_a_stage_called_value_stays_one_where_no_value_is_named() -> None:
    stage = replace(LOG, funnel=("shown", "value"))
    tasks, _ = find_tasks(None, None, stage, {})
    assert not tasks[0].is_value and tasks[0].name == "value"
    (problem,) = check_shop(None, None, replace(stage, value="amount"))
    assert "rename the stage" in problem

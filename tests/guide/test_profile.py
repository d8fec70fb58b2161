import re
from dataclasses import replace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from daogou.features.columns import Columns
from daogou.features.queries import Queries
from daogou.features.rhythm import Rhythm, gaps_of
from daogou.guide import Guide, extract, held, profile
from daogou.guide.score import Past
from daogou.model import predict
from daogou.model.heads.profile import ProfileHead
from daogou.schema import DAY_US


def make_past(ages_days: list[float]) -> Past:
    now = 1000 * DAY_US
    time = np.array([now - round(age * DAY_US) for age in ages_days], dtype=np.int64)
    rows = np.ones(len(time), dtype=np.int64)
    return Past(rows, rows, time, now)


@pytest.mark.parametrize(
    ("ages_days", "expected"),
    [
        ([], "new"),
        ([0, 300], "new"),
        # The shop's mean gap is 4 days and long is 3 times the usual. A user of gaps of 10 and 10
        # days usually waits (2 * 4 + 20) / 4 = 7, so a silence of 21 days is the longest usual one.
        ([20.9, 30.9, 40.9], "active"),
        ([21.1, 31.1, 41.1], "lapsing"),
        # Of gaps of 1 and 1 day: (8 + 2) / 4 = 2.5, so 7.5.
        ([7.4, 8.4, 9.4], "active"),
        ([7.6, 8.6, 9.6], "lapsing"),
        # One visit of three events is no gap: the shop's 4 days, so 12.
        ([11.9, 11.91, 11.92], "active"),
        ([12.1, 12.11, 12.12], "lapsing"),
    ],
)
def test_a_silence_is_long_beside_what_is_usual_for_the_user(
    ages_days: list[float], expected: str
) -> None:
    past = make_past(ages_days)
    assert Rhythm(mean=4.0, at_most=3.0).lifecycle(past.time, past.now) == expected


def test_the_rhythm_of_a_shop_is_that_of_its_gaps(guide: Guide) -> None:
    store, rhythm = guide.artifact.store, guide.scorer.rhythm
    beside, every = [], []
    for row in store.user_rows.values():
        events = store.history_slice(row)
        time = np.asarray(store["history/time"][events])
        every += gaps_of(time).tolist()
        beside += (gaps_of(time) / rhythm.usual(time)).tolist()
    assert rhythm.mean == pytest.approx(np.mean(every))
    assert np.mean(np.array(beside) > rhythm.at_most) == pytest.approx(0.05, abs=0.01)


def test_prices_are_preferred_in_quarters_of_the_catalogue_s(guide: Guide) -> None:
    prices = pa.array([10.0, 20.0, 30.0, 40.0, None])
    catalogue = replace(guide.catalogue, columns={"price": prices, "title": prices.cast("string")})
    now = 1000 * DAY_US
    past = Past(np.array([1, 4, 4, 5, 0]), np.ones(5), np.full(5, now), now)
    # Quarters begin at 20, 30 and 40: one event is below the first of these, two from the last on.
    found = profile.price_bands(catalogue, past)
    shares = {(40.0, None): pytest.approx(2 / 3), (None, 20.0): pytest.approx(1 / 3)}
    assert found == {"price": shares}


@pytest.mark.parametrize(
    ("lang", "sentence"),
    [("en", "prefers .*price from 100[,.]"), ("zh", "偏好.*价格100 以上[、。]")],
)
def test_a_price_that_is_preferred_is_round_and_said_in_words(
    guide: Guide, regular: str, lang: str, sentence: str
) -> None:
    n = guide.catalogue.n_items
    row = guide.artifact.store.user_rows[regular]
    taken = guide.artifact.store["history/item"][guide.artifact.store.history_slice(row)]
    # What they took costs 104.2775, and everything else from 60 to 70: the last border is 100.
    prices = np.linspace(60, 70, n)
    prices[taken[taken > 0] - 1] = 104.2775
    columns = {**guide.catalogue.columns, "price": pa.array(prices)}
    dear = replace(guide, catalogue=replace(guide.catalogue, columns=columns))
    answer = dear.profile(regular, lang=lang)
    assert answer["preferences"]["price"] == {">=100": pytest.approx(1.0)}
    assert re.search(sentence, answer["text"])


def test_a_value_that_only_a_title_names_counts_where_it_is_sure(
    guide: Guide, regular: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes = pa.array([None] * guide.catalogue.n_items, pa.string())
    columns = {**guide.catalogue.columns, "colour": holes}
    without = replace(guide, catalogue=replace(guide.catalogue, columns=columns))

    def read(surely: float) -> None:
        value = {"attribute": "colour", "value": "teal", "confidence": surely}
        monkeypatch.setattr(
            extract, "answers", lambda _, texts: [{"values": [value]} for _ in texts]
        )

    read(0.9)
    assert without.profile(regular)["preferences"]["colour"] == {"teal": pytest.approx(1.0)}
    assert "teal" not in guide.profile(regular)["preferences"]["colour"]
    read(0.7)
    assert "colour" not in without.profile(regular)["preferences"]


def test_the_catalogue_s_words_are_not_learnt_where_it_leaves_nothing_open(
    guide: Guide, regular: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = pa.array(["teal"] * guide.catalogue.n_items)
    columns = {**guide.catalogue.columns}
    columns |= dict.fromkeys(guide.artifact.transform.attributes, named)
    full = replace(guide, catalogue=replace(guide.catalogue, columns=columns))
    monkeypatch.setattr(held, "fit_vocabularies", lambda _: pytest.fail("learnt for nothing"))
    assert full.profile(regular)["preferences"]["colour"] == {"teal": pytest.approx(1.0)}


def test_the_distributions_are_those_of_the_offline_model(guide: Guide, regular: str) -> None:
    artifact = guide.artifact
    row = np.array([artifact.store.user_rows[regular]])
    expected = predict.profile_scores(
        artifact.model, artifact.store, row, history_length=artifact.history_length
    )
    columns = guide.profile(regular)["columns"]
    assert list(columns) == ["gender", "age_band", "tier"]
    for (column, chances), offline in zip(columns.items(), expected, strict=True):
        inner = [chances[value] for value in artifact.transform.classes(column)]
        np.testing.assert_allclose(inner, offline[0], atol=1e-5)
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert list(chances.values()) == sorted(chances.values(), reverse=True)


@torch.inference_mode()
def test_evidence_is_what_the_answer_would_be_without_the_product(guide: Guide) -> None:
    """A user whose newest event is with a product of its own: without it, it is yesterday."""
    store, scorer = guide.artifact.store, guide.scorer
    for user in store.user_rows:
        row = store.user_rows[user]
        past = scorer.past(scorer.queries([row]))
        if len(past.item) == 3 and (past.item == past.item[0]).sum() == 1:
            break
    newest = guide.catalogue.keys[int(past.item[0])]
    lines = {line["item"]: line for line in guide.profile(user)["evidence"]}
    line = lines[newest]
    queries = scorer.queries([row])
    # Ages count from the same now, so only the end of the history moves.
    without = Queries(queries.user, queries.end - 1, queries.time)
    head = cast(ProfileHead, guide.artifact.model.heads["profile"])
    names = [guide.artifact.transform.profile.names[column] for column in head.columns]
    place = names.index(line["column"])
    at = guide.artifact.transform.classes(line["column"]).index(line["value"])
    chances = []
    for each in (queries, without):
        shoppers = scorer.shoppers(each)
        assert shoppers is not None
        columns = {**shoppers.columns.tensors, **scorer.seen(each).tensors}
        distributions = head.distributions(shoppers.encoded, Columns(columns))
        chances.append(float(distributions[place][0, at]))
    assert line["weight"] == pytest.approx(chances[0] - chances[1], abs=1e-6)


def test_evidence_is_the_strongest_first_and_each_product_once(guide: Guide, regular: str) -> None:
    lines = guide.profile(regular)["evidence"]
    weights = [abs(line["weight"]) for line in lines]
    assert weights == sorted(weights, reverse=True)
    assert len({line["item"] for line in lines}) == len(lines) == 5
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_a_preference_names_the_products_that_say_so_and_their_share(
    guide: Guide, regular: str
) -> None:
    answer = guide.profile(regular)
    assert {"price", "colour"} <= answer["preferred_by"].keys()
    top_colour = next(iter(answer["preferences"]["colour"]))
    for column, lines in answer["preferred_by"].items():
        value, share = next(iter(answer["preferences"][column].items()))
        weights = [line["weight"] for line in lines]
        assert weights == sorted(weights, reverse=True) and 1 <= len(lines) <= 3
        # The share of a value is that of its products: of all of them where there are no more.
        assert sum(weights) == pytest.approx(share) or (len(lines) == 3 and sum(weights) < share)
        for line in lines:
            assert (line["column"], line["value"]) == (column, value)
            if column != "price":
                assert (
                    str(guide.catalogue.value(column, guide.catalogue.row(line["item"]))) == value
                )
    wanted = next(value for value in guide.catalogue.shared["colour"] if value != top_colour)
    edited = guide.profile(regular, edits={"set": {"colour": wanted}})
    # What was asked for is preferred, and no product of the past needs to say so.
    assert next(iter(edited["preferences"]["colour"])) == wanted
    carried = {line["value"] for line in edited["preferred_by"].get("colour", [])}
    assert carried <= {wanted}


def test_what_was_done_at_the_beginning_of_time_is_no_preference(guide: Guide) -> None:
    """As a log has it whose unknown times are 0: too long ago to count for anything."""
    catalogue = guide.catalogue
    rows = range(1, len(catalogue.keys))
    colours = {catalogue.value("colour", row): row for row in rows}
    (now, liked), (never, old) = [pair for pair in colours.items() if pair[0] is not None][:2]
    events = [
        {"item": catalogue.keys[row], "kind": "click", "time": time}
        for row, time in ((liked, guide.scorer.now), (old, 0))
    ]
    found = guide.profile("stranger", events=events)
    assert found["preferences"]["colour"] == {now: 1.0}
    assert [line["value"] for line in found["preferred_by"]["colour"]] == [now]
    nothing = guide.profile("stranger", events=events, edits={"forbid": {"colour": now}})
    assert "colour" not in nothing["preferences"]
    asked = {"set": {"colour": never}, "forbid": {"colour": now}}
    told = guide.profile("stranger", events=events, edits=asked)
    assert "colour" not in told["preferred_by"] and told["preferences"]["colour"] == {never: 1.0}


def test_what_was_shown_since_moves_a_profile_and_no_preference(guide: Guide, regular: str) -> None:
    head = cast(ProfileHead, guide.artifact.model.heads["profile"])
    assert head.shown is not None
    at = guide.scorer.now + 1_000_000_000
    seen = [
        {"item": key, "kind": "impression", "time": guide.scorer.now + place}
        for place, key in enumerate(guide.catalogue.keys[1:40])
    ]
    plain, told = (guide.profile(regular, events=given, at=at) for given in ([], seen))
    assert told["events"] == {"read": len(seen), "ignored": []}
    assert told["preferences"] == plain["preferences"] and told["rhythm"] == plain["rhythm"]
    counts = [
        head.shown.count(each["shown"], each["shown_id"], each["shown"][..., 0].gt(0).long())
        for each in (
            guide.scorer.seen(guide.ranker.visit(regular, given, at).queries)
            for given in ([], seen)
        )
    ]
    assert not torch.equal(*counts)


def test_a_stranger_is_new_and_nothing_speaks_for_it(guide: Guide) -> None:
    answer = guide.profile("stranger")
    assert (answer["known"], answer["lifecycle"]) == (False, "new")
    assert answer["evidence"] == [] and answer["preferences"] == {}
    assert answer["preferred_by"] == {}
    assert sum(answer["columns"]["gender"].values()) == pytest.approx(1)


def test_at_most_five_values_of_a_column_are_given(guide: Guide, regular: str) -> None:
    answer = guide.profile(regular)
    assert {"category", "brand"} <= set(answer["preferences"])
    for shares in answer["preferences"].values():
        assert 1 <= len(shares) <= 5
        assert sum(shares.values()) <= 1 + 1e-9
    assert re.match(r"An? \w+ user, here about every \S+ days, last \S+ days ago; probably gender ",
                    answer["text"])  # fmt: skip
    assert "天来一次" in guide.profile(regular, lang="zh")["text"]

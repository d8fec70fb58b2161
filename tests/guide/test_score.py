from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from daogou.errors import ConfigError
from daogou.features.batch import make_batch
from daogou.features.queries import queries_of
from daogou.features.vocab import Vocab
from daogou.guide import Guide
from daogou.model.predict import funnel_scores

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000


def offline(guide: Guide, split: str) -> np.ndarray[Any, Any]:
    artifact = guide.artifact
    found = funnel_scores(
        artifact.model, artifact.store, split, history_length=artifact.history_length
    )
    return found.chances


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_served_path_gives_each_exposure_its_offline_score(guide: Guide, split: str) -> None:
    first, last = guide.artifact.store.ranges[split]
    served = guide.scorer.exposure_chances(np.arange(first, last))
    assert last - first > 400
    np.testing.assert_allclose(served.T.numpy(), offline(guide, split), atol=1e-5)


def test_served_repeats_are_those_of_the_batch_and_say_something(guide: Guide) -> None:
    store, scorer = guide.artifact.store, guide.scorer
    rows = np.arange(*store.ranges["test"])[::3]
    batch = make_batch(store, rows, history_length=1)
    queries, user = queries_of(store, rows)
    assert scorer.items.marks is not None
    marks = scorer.items.marks[torch.from_numpy(store["exposures/item"][rows].astype(np.int64))]
    served = scorer.repeats(queries, torch.from_numpy(user), marks)
    assert torch.equal(served, batch.exposures["repeats"])
    assert (served > 0).any(1).float().mean() > 0.2


def impressions(made_shop: Path) -> dict[str, dict[str, Any]]:
    events = pq.read_table(made_shop / "events.parquet").to_pylist()
    return {event["id"]: event for event in events if event["event"] == "impression"}


def test_a_request_in_words_gives_the_offline_score_of_the_same_row(
    guide: Guide, made_shop: Path
) -> None:
    shown, expected = impressions(made_shop), offline(guide, "test")
    keys = guide.artifact.store.exposure_keys("test").to_pylist()
    n_histories = 0
    for place in range(0, len(keys), 7):
        event = shown[keys[place]["id"]]
        moment = (event["ts"] - EPOCH) // (datetime.resolution) if event["ts"] else None
        answer = guide.score(
            event["user_id"],
            [event["item_id"]],
            context={"position": event["position"], "device": event["device"]},
            at=moment,
        )
        (line,) = answer["items"]
        np.testing.assert_allclose(list(line["p"].values()), expected[place], atol=1e-5)
        row = guide.artifact.store.user_rows[answer["user"]]
        n_histories += len(guide.scorer.past(guide.scorer.queries([row], moment)).item) > 0
    assert n_histories > 20, "or nothing was read and the test would show little"


def test_what_happened_at_the_moment_itself_is_not_read(guide: Guide, regular: str) -> None:
    store = guide.artifact.store
    row = store.user_rows[regular]
    times = store["history/time"][store.history_slice(row)]
    moment = int(times[len(times) // 2])
    at, after = (guide.scorer.past(guide.scorer.queries([row], t)) for t in (moment, moment + 1))
    assert at.time.max() < moment
    assert after.time.max() == moment
    assert len(guide.scorer.past(guide.scorer.queries([row], int(times[0]))).item) == 0


def test_no_moment_means_after_everything(guide: Guide, regular: str) -> None:
    items = guide.catalogue.keys[1:4]
    late = guide.score(regular, items, at=guide.scorer.now)
    assert guide.score(regular, items) == late
    assert guide.score(regular, items, at=guide.scorer.start) != late


def test_a_user_nobody_knows_reads_the_unknown_row_and_no_history(guide: Guide) -> None:
    queries = guide.scorer.queries([0])
    assert queries.end.tolist() == [0]
    shoppers = guide.scorer.shoppers(queries)
    assert shoppers is not None
    assert shoppers.columns["id"].tolist() == [0]
    assert not shoppers.columns["action"].any()


def test_users_are_scored_alike_alone_and_together(guide: Guide) -> None:
    rows = [0, 3, 7, 11]
    together = guide.scorer.shoppers(guide.scorer.queries(rows))
    assert together is not None and together.encoded.users is not None
    for place, row in enumerate(rows):
        alone = guide.scorer.shoppers(guide.scorer.queries([row]))
        assert alone is not None and alone.encoded.users is not None
        torch.testing.assert_close(
            alone.encoded.users[0], together.encoded.users[place], atol=1e-5, rtol=0
        )


def test_context_that_is_not_said_is_missing(guide: Guide) -> None:
    fields = guide.artifact.transform.context
    missing = fields.encode({}, 1)
    for said in (None, {}, {"device": None}, {"position": None, "device": "abacus"}):
        rows, ranks = guide.scorer.context(said, 2)
        assert rows.tolist() == [missing[0][0].tolist()] * 2
        assert ranks.tolist() == [missing[1][0].tolist()] * 2


def test_context_is_read_as_the_tables_spell_it(guide: Guide) -> None:
    spellings = [3, 3.0, np.int64(3), "3"]
    rows = [guide.scorer.context({"position": each}, 1)[0].tolist() for each in spellings]
    assert rows == [rows[0]] * 4
    assert rows[0] != guide.scorer.context({}, 1)[0].tolist()


def test_half_a_surrogate_pair_is_an_unseen_word(guide: Guide) -> None:
    rows, _ = guide.scorer.context({"device": "\ud83d"}, 1)
    assert rows.tolist() == guide.scorer.context({}, 1)[0].tolist()


def test_an_unknown_context_column_is_named(guide: Guide) -> None:
    with pytest.raises(ConfigError, match=r"context.devize: no 'devize' here \(did you mean 'dev"):
        guide.score("100001", ["500001"], context={"devize": "phone"})


def test_a_word_where_the_context_is_a_number_is_refused(guide: Guide) -> None:
    fields = guide.artifact.transform.context
    numbers = [n for n, c in zip(fields.names, fields.coders, strict=True) if type(c) is not Vocab]
    assert numbers, "the made shop's position is a number"
    with pytest.raises(ConfigError, match="a number is wanted, found 'top'"):
        guide.scorer.context({numbers[0]: "top"}, 1)


@pytest.mark.parametrize("moment", ["2024", 1.5, True])
def test_a_moment_that_is_no_whole_number_is_refused(guide: Guide, moment: Any) -> None:
    with pytest.raises(ConfigError, match="give microseconds since 1970"):
        guide.score("100001", ["500001"], at=moment)

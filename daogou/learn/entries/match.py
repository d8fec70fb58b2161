"""Where matching ranks what was taken, to its entry."""

from typing import Any

from daogou.learn.entries.asked import Array, Asked, Entry, mean_interval
from daogou.metrics import fit_ranks, mean_of
from daogou.model import predict
from daogou.schema import Task


def match(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    """The entry of matching."""
    store, run = asked.store, asked.run
    queries, relevant = predict.first_queries(store, asked.split)
    wanted = [items - 1 for items in relevant]  # scores start at row 1
    blocks = predict.match_scores(run.model, store, queries, history_length=run.history_length)
    entry = ranked(blocks, wanted, asked.seed)
    if asked.truth is not None and len(wanted):
        names = {row: name for name, row in store.user_rows.items()}
        oracle = asked.truth.match_scores([names[row] for row in queries.user.tolist()])
        place = {name: j for j, name in enumerate(asked.truth.item_ids)}
        order = [place[name] for name in store.item_keys[1:]]
        ceiling = ranked(iter([oracle[:, order]]), wanted, asked.seed)
        entry |= {f"ceiling_{name}": ceiling[name] for name in ("recall@50", "ndcg@20")}
        entry["share_of_ceiling"] = entry["recall@50"] / ceiling["recall@50"]
    return {tasks[0].name: entry}


def ranked(blocks: Any, wanted: list[Array], seed: int) -> Entry:
    """Measures of one ranking for each user."""
    if not wanted:
        return {"recall@50": float("nan"), "ndcg@20": float("nan"), "n": 0}
    ranks = fit_ranks(blocks, wanted)
    entry: Entry = {}
    for name, values in (
        ("recall@20", ranks.recall_at(20)),
        ("recall@50", ranks.recall_at(50)),
        ("ndcg@20", ranks.ndcg_at(20)),
    ):
        entry[name] = mean_of(values)
        entry[f"{name}_interval"] = mean_interval(values, seed)
    return entry | {"n": len(wanted), "positives": int(sum(map(len, wanted)))}

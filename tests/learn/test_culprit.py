"""A step without a finite loss: what is named, and what is kept to be looked at."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.features.batch import make_batch
from daogou.learn import loop
from daogou.learn.culprit import suspects
from daogou.learn.fit import fit
from tests.learn.test_fit import TINY
from tests.shops import EVENTS, TOML, compile_shop, write_shop


def weighed(folder: Path, heavy: float) -> Path:
    """The hand-made shop with weights: of the first two exposures ``heavy``, of the others 1."""
    toml = TOML.replace("[events]", '[events]\nweight = "weight"')
    weights = [heavy if place < 2 else 1.0 for place in range(len(EVENTS))]
    events = [event | {"weight": w} for event, w in zip(EVENTS, weights, strict=True)]
    write_shop(folder, toml=toml, events=events)
    return folder


def test_a_number_that_is_too_large_is_named_and_its_batch_is_kept(tmp_path: Path) -> None:
    shop = read_shop(weighed(tmp_path / "shop", 3e38), TINY)
    with pytest.raises(
        DataError, match=r"epoch 1, step 1: the loss of click.* became nan or infinite; look at "
        r"events\.weight of exposure '.+', which is 3e\+38; the batch is in .*run/culprit: mend",
    ):  # fmt: skip
        fit(shop, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "culprit" / "culprit.json").read_text("utf-8"))
    batch = load_file(tmp_path / "run" / "culprit" / "batch.safetensors")
    assert (told["epoch"], told["step"], told["what"]) == (1, 1, "loss")
    assert "click" in told["tasks"] and told["losses"]["click"] == "nan" and not told["weights"]
    worst = told["suspects"][0]
    assert (worst["table"], worst["column"]) == ("events", "weight")
    assert batch["exposures.weight"][worst["row"]] == pytest.approx(3e38)
    assert len(told["exposures"]) == len(told["rows"]) == len(batch["exposures.weight"])
    assert {"id", "user", "item"} <= told["exposures"][worst["row"]].keys()
    assert not (tmp_path / "run" / "checkpoint" / "last.safetensors").exists()


@pytest.mark.parametrize("planted", [1e30, float("inf"), -1e30])
def test_the_number_furthest_from_what_is_usual_comes_first(tmp_path: Path, planted: float) -> None:
    write_shop(tmp_path / "shop")
    transform, store = compile_shop(read_shop(tmp_path / "shop"))
    batch = make_batch(store, torch.arange(*store.ranges["train"]).numpy())
    assert suspects(batch, transform)[0].times < 100
    numbers = batch.items["numbers"]
    assert numbers.shape[1], "the shop has a column of numbers"
    numbers[2, 0] = planted
    first = suspects(batch, transform)[0]
    assert (first.table, first.column, first.place) == ("items", "price", 2)
    assert first.value == pytest.approx(planted)


def test_a_gradient_that_is_not_finite_changes_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path / "shop")
    seen: list[loop.Learner] = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))

    def look(learner: loop.Learner, *_: object) -> None:
        seen.append(learner)

    with pytest.raises(DataError, match=r"epoch 1, step 1: a gradient became nan or infinite"):
        fit(read_shop(tmp_path / "shop", TINY), tmp_path / "run", observe=look)
    assert all(bool(torch.isfinite(weight).all()) for weight in seen[0].dense)
    assert not seen[0].adam.state

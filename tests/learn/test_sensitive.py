"""Sensitive columns are not read; how well they could be told all the same is measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.learn.sensitive import _told, probe_sensitive
from daogou.report.terminal import inferable
from daogou.schema import Shop
from daogou.tables import Engine, prepare
from tests.shops import write_shop

BOTH = 'users.sensitive=["gender", "city"]'


def read_columns(shop: Shop) -> set[str]:
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        return set(engine.columns("users"))


def test_a_sensitive_column_is_no_input_no_task_and_is_not_even_read(tmp_path: Path) -> None:
    write_shop(tmp_path)
    free = read_shop(tmp_path)
    assert {"gender", "city"} <= read_columns(free)
    shop = read_shop(tmp_path, [BOTH])
    assert shop.users is not None
    assert (shop.users.columns, shop.users.profile) == ((), ())
    assert not {"gender", "city"} & read_columns(shop)
    assert not shop.of_family("profile")
    assert "users.allowed would let it" in shop.absent["profile.gender"]


def test_an_allowed_column_is_read_and_predicted(tmp_path: Path) -> None:
    write_shop(tmp_path)
    shop = read_shop(tmp_path, [BOTH, 'users.allowed=["gender"]'])
    assert [task.name for task in shop.of_family("profile")] == ["profile.gender"]
    assert shop.users is not None and shop.users.columns == ()


def test_what_is_said_of_a_withheld_task_waits_until_it_is_allowed(tmp_path: Path) -> None:
    write_shop(tmp_path)
    weight = "tasks.profile.gender.weight=0.7"
    assert not read_shop(tmp_path, [BOTH, weight]).of_family("profile")
    allowed = read_shop(tmp_path, [BOTH, weight, 'users.allowed=["gender"]'])
    assert allowed.task("profile.gender").weight == 0.7


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('users.allowed=["gender"]', "users.allowed: no 'gender' here"),
        ('users.sensitive=["user_id"]', "users.sensitive: 'user_id' is the key or the split"),
    ],
)
def test_consent_that_makes_no_sense_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    write_shop(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_shop(tmp_path, [setting])


@pytest.fixture(scope="module")
def loaded(made_run: Path) -> Artifact:
    return artifact.load(made_run, verify=False)


def test_the_probe_reads_the_shop_s_column_and_says_what_it_found(
    loaded: Artifact, made_shop: Path
) -> None:
    data = read_shop(made_shop, ['users.sensitive=["gender"]'])
    document = probe_sensitive(loaded, data=data)
    told = document["sensitive"]["gender"]
    assert told["n"] > 100 and told["values"] == 2 and not told["allowed"]
    low, high = told["auc_interval"]
    assert 0.4 < low < told["auc"] < high < 1
    (sentence,) = inferable(document)
    assert f"over {told['n']} users" in sentence
    with pytest.raises(ConfigError, match="lists no column"):
        probe_sensitive(loaded)


def test_a_run_without_histories_cannot_be_probed(loaded: Artifact, made_shop: Path) -> None:
    shop = read_shop(made_shop, ['users.sensitive=["gender"]'])
    model = artifact.load(loaded.folder, verify=False).model
    model.user = None
    with pytest.raises(ConfigError, match="reads no histories"):
        probe_sensitive(replace(loaded, model=model), data=shop)


def test_what_the_states_hold_is_told_and_what_they_lack_is_not() -> None:
    made = torch.Generator().manual_seed(0)
    states = torch.randn(400, 6, generator=made, dtype=torch.float64)
    held = (states[:, 0] + 0.5 * states[:, 1] > 0.3).long().numpy()
    lacked = np.random.default_rng(0).integers(0, 2, 400)
    assert _told(states, held, 0)["auc"] > 0.95
    nothing = _told(states, lacked, 0)
    assert nothing["auc_interval"][0] < 0.5 < nothing["auc_interval"][1]
    assert np.isnan(_told(states, np.zeros(400, dtype=np.int64), 0)["auc"])


def test_sentences_say_what_is_and_what_is_not_seen() -> None:
    entry = {"n": 90, "values": 2, "allowed": False}
    document = {
        "sensitive": {
            "gender": {"auc": 0.71, "auc_interval": [0.64, 0.78], **entry},
            "creed": {"auc": 0.52, "auc_interval": [0.45, 0.59], **entry},
            "origin": {"auc": None, "auc_interval": [None, None], **entry},
        }
    }
    english = inferable(document)
    assert english[0].startswith("gender can be told from behaviour: AUC 0.71")
    assert "is not seen to be told" in english[1]
    assert "too few known values" in english[2]
    assert inferable(document, lang="zh")[0].startswith("gender 可以从行为推断")

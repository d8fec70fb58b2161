"""The domain of an exposure reaches a mixer that asks for one, and no other."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from daogou import artifact
from daogou.artifact.counts import model_of
from daogou.features.batch import make_batch
from daogou.features.store import Store
from daogou.guide import Guide
from daogou.model.build import Shape
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.model.mixers import MIXERS
from tests.shops import TOML, compile_shop, write_shop


class Asks(nn.Module):
    """A mixer that adds its domain's number to its input, and remembers what it was told."""

    def __init__(
        self, n_inputs: int, n_tasks: int, *, widths: Any, dropout: float, n_domains: int = 1
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_outputs, self.n_domains = n_tasks, n_inputs, n_domains
        self.told: list[dict[str, Tensor]] = []

    def forward(self, inputs: Tensor, **asides: Tensor) -> Tensor:
        self.told.append(asides)
        shift = asides["domain"][:, None] if "domain" in asides else 0
        return (inputs + shift).expand(self.n_tasks, *inputs.shape)


class Plain(Asks):
    """The same without a word of domains."""

    def __init__(self, n_inputs: int, n_tasks: int, *, widths: Any, dropout: float) -> None:
        super().__init__(n_inputs, n_tasks, widths=widths, dropout=dropout)


def built(
    folder: Path, monkeypatch: pytest.MonkeyPatch, domain: str | None, mixer: type[Asks]
) -> tuple[Store, JointModel, Asks]:
    """The hand-made shop's model with a mixer of ours, and what it was made from."""
    context = 'context = ["device", "position"]'
    toml = TOML if domain is None else TOML.replace(context, f'{context}\ndomain = "{domain}"')
    shop = write_shop(folder, toml=toml)
    transform, store = compile_shop(shop)
    monkeypatch.setitem(cast(Any, MIXERS), "stub", mixer)
    torch.manual_seed(0)
    model = model_of(transform, store, shop, Shape(width=8, mixer="stub")).eval()
    return store, model, cast(Asks, cast(FunnelHead, model.heads["funnel"]).mixer)


def told(store: Store, model: JointModel, mixer: Asks) -> list[int]:
    """The domain of each exposure of the shop, in store order."""
    batch = make_batch(store, np.arange(8), history_length=4)
    with torch.inference_mode():
        cast(FunnelHead, model.heads["funnel"]).towers(model.encode(batch), batch)
    return cast(list[int], mixer.told[-1]["domain"].tolist())


def test_a_mixer_that_asks_is_told_each_exposures_domain_and_0_for_an_unknown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three exposures of training on a phone, so row 1; two at a desk; the watch is new.
    store, model, mixer = built(tmp_path, monkeypatch, "device", Asks)
    assert mixer.n_domains == 3
    assert told(store, model, mixer) == [1, 1, 2, 2, 1, 0, 1, 0]


def test_a_number_is_a_domain_of_as_many_kinds_as_training_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model, mixer = built(tmp_path, monkeypatch, "position", Asks)
    assert mixer.n_domains == 3  # places 1 and 2, and the unknown
    assert told(store, model, mixer) == [1, 2, 1, 2, 1, 0, 1, 0]


@pytest.mark.parametrize(("domain", "mixer"), [(None, Asks), ("device", Plain)])
def test_without_a_domain_or_a_mixer_that_asks_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: str | None, mixer: type[Asks]
) -> None:
    store, model, made = built(tmp_path, monkeypatch, domain, mixer)
    batch = make_batch(store, np.arange(8), history_length=4)
    with torch.inference_mode():
        cast(FunnelHead, model.heads["funnel"]).towers(model.encode(batch), batch)
    assert made.n_domains == 1
    assert made.told == [{}]


def test_a_served_request_has_the_domain_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model, mixer = built(tmp_path / "shop", monkeypatch, "device", Asks)
    (tmp_path / "run").mkdir()
    store.folder.rename(tmp_path / "run" / "store")
    shop = write_shop(
        tmp_path / "shop",
        toml=TOML.replace('"position"]', '"position"]\ndomain = "device"'),
    )
    transform, _ = compile_shop(shop)
    artifact.save(tmp_path / "run", shop=shop, transform=transform, model=model,
                  shape=Shape(width=8, mixer="stub"), record={"history_length": 4})  # fmt: skip
    guide = Guide.load(tmp_path / "run")
    mixer = cast(Asks, cast(FunnelHead, guide.artifact.model.heads["funnel"]).mixer)
    for device, row in (("desk", 2), ("phone", 1), ("toaster", 0), (None, 0)):
        guide.score(1, [10, 11], context={"device": device})
        assert mixer.told[-1]["domain"].tolist() == [row, row]

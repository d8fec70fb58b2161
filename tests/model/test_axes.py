"""Weights found again by what they stand for: in the same shop all, elsewhere what is shared."""

from dataclasses import replace

import pytest
import torch

from daogou.artifact.counts import counts_of
from daogou.features.merge import merge
from daogou.features.transform import Transform
from daogou.features.vocab import Vocab
from daogou.model.axes import Axes, axes_of, carry
from daogou.model.build import Shape, build
from daogou.model.joint import JointModel
from tests.model.conftest import Compiled


def model_of(compiled: Compiled, transform: Transform, seed: int, **shape: object) -> JointModel:
    torch.manual_seed(seed)
    counts = counts_of(transform, compiled.store, compiled.shop.tasks)
    return build(transform, compiled.shop.tasks, counts, Shape(**shape))  # type: ignore[arg-type]


def carried(compiled: Compiled, transform: Transform, **flags: bool) -> tuple[JointModel, set[str]]:
    """A new model of another transform with the weights of the made shop's."""
    model = model_of(compiled, transform, 1)
    of = axes_of(compiled.model, compiled.transform)
    weights = compiled.model.state_dict()
    given = carry(weights, of, model, axes_of(model, transform), **flags)
    return model, set(given)


def test_in_the_same_shop_every_weight_is_found_again(compiled: Compiled) -> None:
    model, given = carried(compiled, compiled.transform)
    assert given == {name for name, _ in model.named_parameters()}
    for name, weight in compiled.model.named_parameters():
        assert torch.equal(model.get_parameter(name), weight), name


@pytest.mark.parametrize("mixer", ["mmoe", "star", "pepnet", "stem", "cross_stitch"])
def test_so_it_is_with_every_kind_of_mixer(compiled: Compiled, mixer: str) -> None:
    one, other = (model_of(compiled, compiled.transform, seed, mixer=mixer) for seed in (0, 1))
    axes = axes_of(one, compiled.transform)
    assert set(carry(one.state_dict(), axes, other, axes)) == set(axes)
    assert all(
        torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_values_are_found_wherever_their_rows_are(compiled: Compiled) -> None:
    before = compiled.transform
    words = before.user_ids.words
    turned = replace(before, user_ids=Vocab(("new", *words[::-1]), (9,) * (len(words) + 1)))
    model, _ = carried(compiled, turned)
    assert model.user is not None
    assert compiled.model.user is not None
    old, new = compiled.model.user.ids.weight, model.user.ids.weight
    assert torch.equal(new[2:], old[1:].flip(0))
    assert torch.equal(new[1], old[0])  # whom the source does not know, it knows as the unknown
    kept, _ = carried(compiled, turned, stand_in=False)
    assert kept.user is not None
    assert torch.equal(kept.user.ids.weight[1], model_of(compiled, turned, 1).user.ids.weight[1])  # type: ignore[union-attr]


def test_an_input_that_was_never_read_says_nothing_at_first(compiled: Compiled) -> None:
    """A new column in the middle of the others moves their inputs, and adds 0 itself."""
    items = compiled.transform.items
    more = replace(
        items,
        names=(items.names[0], "season", *items.names[1:]),
        coders=(items.coders[0], Vocab(("spring",), (1,)), *items.coders[1:]),
    )
    model, _ = carried(compiled, replace(compiled.transform, items=more))
    assert model.item is not None
    assert compiled.model.item is not None
    assert model.item.mix is not None
    assert compiled.model.item.mix is not None
    width = compiled.model.item.fields.table.embedding_dim  # type: ignore[union-attr]
    old, new = compiled.model.item.mix.weight, model.item.mix.weight
    assert torch.equal(new[:, :width], old[:, :width])
    assert not new[:, width : 2 * width].any()
    assert torch.equal(new[:, 2 * width :], old[:, width:])
    # The counts of a past have three more inputs of the mixer, one apart from the other.
    wide = model.get_parameter("heads.funnel.wide")
    before = compiled.model.get_parameter("heads.funnel.wide")
    assert wide.shape[1] == before.shape[1] + 3
    assert torch.equal(wide[:, wide.abs().sum(0) > 0], before[:, before.abs().sum(0) > 0])


def test_rows_that_belong_to_one_stage_are_found_by_whose_they_are(compiled: Compiled) -> None:
    """Of shops with as many products each: a row is the same product's, or the unknown one's."""
    before = compiled.transform
    words = before.item_ids.words
    turned = replace(before, item_ids=Vocab(("new", *words[:0:-1]), before.item_ids.counts))
    one = model_of(compiled, before, 0, mixer="stem")
    other = model_of(compiled, turned, 1, mixer="stem")
    carry(one.state_dict(), axes_of(one, before), other, axes_of(other, turned))
    name = "heads.funnel.own.rows.weight"
    n_stages, first = len(one.heads["funnel"].given), before.user_ids.n_rows  # type: ignore[union-attr, arg-type]
    old, new = (
        each.get_parameter(name).view(-1, n_stages, each.get_parameter(name).shape[1])
        for each in (one, other)
    )
    assert old.shape == new.shape
    assert torch.equal(new[:first], old[:first])
    assert torch.equal(new[first + 1], old[first])
    n = len(words)
    assert torch.equal(new[first + 2 : first + n + 1], old[first + 2 : first + n + 1].flip(0))
    assert torch.equal(new[first + n + 1 :], old[first + n + 1 :])


def test_places_and_domains_are_found_by_what_they_are_called(compiled: Compiled) -> None:
    def with_words(*words: str) -> Transform:
        context = compiled.transform.context
        coder = Vocab(words, (1,) * len(words))
        coders = [coder if name == "position" else each
                  for name, each in zip(context.names, context.coders, strict=True)]  # fmt: skip
        return replace(compiled.transform, context=replace(context, coders=tuple(coders)),
                       position="position", domain="position")  # fmt: skip

    for mixer, names in (
        ("pepnet", ("position.bias.weight", "mixer.domains")),
        ("star", ("mixer.factors.0", "mixer.shifts.1")),
    ):
        one, other = (model_of(compiled, with_words(*words), 0, mixer=mixer)
                      for words in (("1", "2", "3"), ("3", "2", "1")))  # fmt: skip
        for weight in one.parameters():
            torch.nn.init.normal_(weight)
        carry(one.state_dict(), axes_of(one, with_words("1", "2", "3")),
              other, axes_of(other, with_words("3", "2", "1")))  # fmt: skip
        for name in names:
            old, new = (each.get_parameter(f"heads.funnel.{name}") for each in (one, other))
            if name.startswith("position"):
                old, new = (each.view(4, -1) for each in (old, new))
            assert torch.equal(new[-3:], old[-3:].flip(0)), name
            assert torch.equal(new[:-3], old[:-3]), name


def test_a_layer_of_as_many_units_as_inputs_is_carried_only_to_the_same_inputs(
    compiled: Compiled,
) -> None:
    """Units are not inputs: taken for them, they would change places with each other."""
    n = compiled.model.get_parameter("heads.funnel.wide").shape[1]
    items = compiled.transform.items
    turned = replace(
        compiled.transform,
        items=replace(items, names=items.names[::-1], coders=items.coders[::-1]),
    )
    for widths in ((n, 8), (8, n)):
        one = model_of(compiled, compiled.transform, 0, expert_widths=widths)
        of = axes_of(one, compiled.transform)
        for transform, some in ((compiled.transform, True), (turned, False)):
            other = model_of(compiled, transform, 1, expert_widths=widths)
            given = carry(one.state_dict(), of, other, axes_of(other, transform))
            assert bool([name for name in given if ".mixer." in name]) is some


def test_gates_that_read_more_than_the_inputs_find_them_behind_or_before(
    compiled: Compiled,
) -> None:
    """Of the domain's prior and of a task's own rows, beside inputs in another order."""
    items = compiled.transform.items
    turned = replace(
        compiled.transform,
        items=replace(items, names=items.names[::-1], coders=items.coders[::-1]),
    )
    for mixer, name, dim, first in (
        ("pepnet", "heads.funnel.mixer.enter.weight", 1, 16),
        ("stem", "heads.funnel.mixer.own.layers.0.weight", 0, 0),
    ):
        one, other = (
            model_of(compiled, transform, seed, mixer=mixer)
            for seed, transform in enumerate((compiled.transform, turned))
        )
        wide = one.get_parameter("heads.funnel.wide")
        n = wide.shape[1]
        with torch.no_grad():
            wide.copy_(torch.arange(n).expand_as(wide))
        carry(one.state_dict(), axes_of(one, compiled.transform), other, axes_of(other, turned))
        at = other.get_parameter("heads.funnel.wide")[0].long()
        assert not torch.equal(at, torch.arange(n))
        old, new = (each.get_parameter(name).movedim(dim, 0) for each in (one, other))
        assert torch.equal(new[first : first + n], old[first + at])
        assert torch.equal(new[:first], old[:first])
        assert torch.equal(new[first + n :], old[first + n :])


def test_a_stage_is_found_by_its_name(compiled: Compiled) -> None:
    tasks = tuple(task for task in compiled.shop.tasks if task.name in ("click", "cart"))
    counts = counts_of(compiled.transform, compiled.store, tasks)
    model = build(compiled.transform, tasks, counts, Shape())
    axes = axes_of(model, compiled.transform)
    of = axes_of(compiled.model, compiled.transform)
    given = carry(compiled.model.state_dict(), of, model, axes)
    theirs = compiled.model.get_parameter("heads.funnel.hidden.weight")
    assert torch.equal(model.get_parameter("heads.funnel.hidden.weight"), theirs[:, :2])
    # Experts and gates are those of three stages, whose places tell them apart.
    assert not [name for name in given if "mixer" in name]


def test_a_class_is_found_by_its_name(compiled: Compiled) -> None:
    place = compiled.transform.profile.names.index("tier")
    coder = compiled.transform.profile.coders[place]
    assert isinstance(coder, Vocab)
    coders = list(compiled.transform.profile.coders)
    coders[place] = Vocab(("diamond", *coder.words[::-1]), (1, *coder.counts))
    profile = replace(compiled.transform.profile, coders=tuple(coders))
    model, _ = carried(compiled, replace(compiled.transform, profile=profile))
    old, new = (each.get_parameter(f"heads.profile.networks.{place}.3.weight")
                for each in (compiled.model, model))  # fmt: skip
    assert torch.equal(new[1:], old.flip(0))


def test_a_layer_of_another_width_is_left_as_it_began() -> None:
    class One(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2, width))

    model = One(3)
    given = carry(One(4).state_dict(), {"w": Axes("w")}, model, {"w": Axes("w")})  # type: ignore[arg-type]
    assert given == []
    assert model.w.eq(1).all()


def test_the_rows_of_words_and_of_what_words_make_are_found(compiled: Compiled) -> None:
    before = compiled.transform.text
    assert before is not None
    some = dict(list(before.words.items())[1:])
    own = replace(
        compiled.transform,
        text=replace(
            before,
            words={word: row for row, word in enumerate(["fresh", *some], start=2)},
            pairs=before.pairs[1:],
        ),
    )
    both = merge(compiled.transform, own)
    model, _ = carried(compiled, both)
    assert both.text is not None
    assert model.text is not None
    assert compiled.model.text is not None
    old, new = compiled.model.text.table.weight, model.text.table.weight
    for word, row in before.words.items():
        assert torch.equal(new[both.text.words[word]], old[row])
    assert torch.equal(new[both.text.words["fresh"]], old[1])

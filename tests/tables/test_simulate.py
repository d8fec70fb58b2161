from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.tables import simulate as simulation
from daogou.tables.draw.lots import WINDOW_H
from daogou.tables.draw.products import Items, make_items
from daogou.tables.draw.shoppers import PROFILE, Users, make_users
from daogou.tables.draw.slates import EPOCH_US
from daogou.tables.simulate import FILES, simulate
from daogou.tables.titles import ATTRIBUTES
from daogou.tables.truth import STAGES, Truth, read_truth
from daogou.tables.world import PRESETS, world_of

SMALL = {"users": 300, "items": 240, "exposures": 60_000}


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("made") / "easy"
    answer = simulate(folder, "easy", seed=1, **SMALL)
    return folder, answer


def labels(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """For each exposure in the order of its id: did each stage come within its window?"""
    events = pq.read_table(folder / "events.parquet")
    kind = np.array(events["event"].to_pylist())
    time_h = events["ts"].cast("int64").to_numpy() / 3.6e9
    # A request holds a product once, so (request, item) names an exposure.
    keys = np.array(
        [
            f"{request}/{item}"
            for request, item in zip(
                *(events[name].to_pylist() for name in ("request", "item_id")), strict=True
            )
        ]
    )
    shown = kind == "impression"
    ids = np.array(events["id"].to_pylist(), dtype=object)[shown]
    where = dict(zip(keys[shown], range(shown.sum()), strict=True))
    start = time_h[shown]
    found = {}
    for stage in STAGES:
        label = np.zeros(len(ids), dtype=bool)
        for key, when in zip(keys[kind == stage], time_h[kind == stage], strict=True):
            row = where[key]
            label[row] = 0 <= when - start[row] <= WINDOW_H[stage]
        found[stage] = label
    return list(ids), found


def assert_means_agree(label: Any, chance: Any) -> None:
    error = np.sqrt((chance * (1 - chance)).sum()) / len(chance)
    assert abs(label.mean() - chance.mean()) <= 4 * error


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_meets_its_rates(tmp_path: Path, preset: str) -> None:
    answer = simulate(tmp_path / "shop", preset, seed=2, exposures=40_000)
    world = PRESETS[preset]
    wanted = world.click_rate
    n = answer["exposures"]
    assert 38_000 <= n <= 40_000
    for stage, rate in (("cart", world.cart_rate), ("purchase", world.purchase_rate), (None, 1)):
        found = answer["rates"]["click" if stage == "cart" else "cart" if stage else "purchase"]
        assert abs(found - wanted) <= 5 * np.sqrt(wanted / n)
        wanted *= rate


def test_easy_has_a_click_in_five_and_a_purchase_in_fifty(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    _, answer = easy
    assert answer["rates"]["click"] == pytest.approx(0.20, abs=0.006)
    assert answer["rates"]["purchase"] == pytest.approx(0.02, abs=0.003)


def test_labels_follow_the_truth_at_every_stage_and_decile(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    ids, found = labels(folder)
    truth = read_truth(folder / "truth").exposures(ids)
    compared = 0
    for stage in STAGES:
        assert_means_agree(found[stage], truth[f"p_{stage}"])
        order = np.argsort(truth[f"k_{stage}"], kind="stable")
        for decile in np.array_split(order, 10):
            # Below some 25 events a count is too skewed for a bound in standard errors.
            if truth[f"p_{stage}"][decile].sum() >= 25:
                assert_means_agree(found[stage][decile], truth[f"p_{stage}"][decile])
                compared += 1
    assert compared >= 18
    for stage, before in (("cart", "click"), ("purchase", "cart")):
        rows = found[before]
        assert_means_agree(found[stage][rows], truth[f"p_{stage}_given"][rows])


def test_a_purchase_that_comes_after_its_window_is_no_label_and_the_truth_knows(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "slow"
    slow = {"delay_scale_h": 60.0, "delay_shape": 1.0, "price_effect": 0.0}
    answer = simulate(folder, "easy", seed=3, **{**SMALL, **slow})
    ids, found = labels(folder)
    truth = read_truth(folder / "truth").exposures(ids)
    assert_means_agree(found["purchase"], truth["p_purchase"])
    # 1 - exp(-72 / 60) = 0.699 of purchases come in time, more or less by the price.
    share = truth["p_purchase"].mean() / answer["rates"]["purchase"]
    assert share == pytest.approx(0.70, abs=0.03)


def test_knowable_chances_are_calibrated_though_intent_is_hidden(tmp_path: Path) -> None:
    # Outcomes of a slate share their intent, so the error is that of the slates' means.
    folder = tmp_path / "shop"
    simulate(folder, "confounded", seed=4, **{**SMALL, "click_rate": 0.2})
    events = pq.read_table(folder / "events.parquet", filters=[("event", "==", "impression")])
    slate = np.array(events["request"].to_pylist(), dtype=np.int64)
    truth = read_truth(folder / "truth").exposures(events["id"])
    for stage in STAGES:
        gap = np.bincount(slate, truth[f"p_{stage}"] - truth[f"k_{stage}"])
        assert abs(gap.mean()) <= 4 * gap.std() / np.sqrt(len(gap))


def test_later_stages_are_never_likelier(easy: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = easy
    table = pq.read_table(folder / "truth" / "exposures.parquet")
    for kind in ("p", "k"):
        click, cart, buy = (table[f"{kind}_{stage}"].to_numpy() for stage in STAGES)
        assert (buy <= cart).all() and (cart <= click).all()
        assert (buy > 0).all() and (click < 1).all()
        assert np.allclose(table[f"{kind}_cart_given"].to_numpy() * click, cart)
        assert np.allclose(table[f"{kind}_purchase_given"].to_numpy() * cart, buy)


def test_without_a_confounder_everything_is_knowable(tmp_path: Path) -> None:
    simulate(tmp_path / "s", "easy", confounder=0.0, users=50, items=60, exposures=2_000)
    table = pq.read_table(tmp_path / "s" / "truth" / "exposures.parquet")
    for stage in STAGES:
        assert np.allclose(table[f"p_{stage}"].to_numpy(), table[f"k_{stage}"].to_numpy())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    small = {"users": 60, "items": 80, "exposures": 3_000}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        simulate(tmp_path / name, seed=seed, **small)
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(names) == 8
    for name in names:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert first != (tmp_path / "c" / name).read_bytes()


def latents(folder: Path, table: str) -> tuple[Any, Any]:
    truth = read_truth(folder / "truth")
    rows = truth._users if table == "users" else truth._items
    return np.array(rows["latent"].to_pylist()), np.array(rows["later"].to_pylist())


@pytest.mark.parametrize(("kappa", "shared"), [(0.0, 0), (0.5, 3), (1.0, 6)])
@pytest.mark.parametrize("sign", [1, -1])
def test_kappa_says_how_many_dimensions_are_common_and_sign_which_way(
    tmp_path: Path, kappa: float, shared: int, sign: int
) -> None:
    simulate(tmp_path / "s", kappa=kappa, sign=sign, users=60, items=80, exposures=500)
    taste, taste_later = latents(tmp_path / "s", "users")
    latent, latent_later = latents(tmp_path / "s", "items")
    assert np.array_equal(taste[:, :shared], taste_later[:, :shared])
    assert np.array_equal(sign * latent[:, :shared], latent_later[:, :shared])
    assert not np.isclose(taste[:, shared:], taste_later[:, shared:]).any()
    assert not np.isclose(np.abs(latent[:, shared:]), np.abs(latent_later[:, shared:])).any()


def test_the_sign_turns_the_correlation_of_click_and_cart(tmp_path: Path) -> None:
    found = {}
    for kappa, sign in ((1.0, 1), (1.0, -1), (0.0, 1)):
        folder = tmp_path / f"{kappa}{sign}"
        simulate(folder, "transfer", kappa=kappa, sign=sign, **SMALL)
        table = pq.read_table(folder / "truth" / "exposures.parquet")
        click = table["k_click"].to_numpy() / table["exam"].to_numpy()
        found[kappa, sign] = np.corrcoef(np.log(click), np.log(table["k_cart_given"].to_numpy()))[
            0, 1
        ]
    assert found[1.0, 1] > 0.6
    assert found[1.0, -1] < -0.6
    assert abs(found[0.0, 1]) < 0.3


def test_kappa_moves_only_the_later_stages(tmp_path: Path) -> None:
    clicks = []
    for kappa in (0.0, 1.0):
        simulate(tmp_path / str(kappa), kappa=kappa, users=60, items=80, exposures=500)
        table = pq.read_table(tmp_path / str(kappa) / "truth" / "exposures.parquet")
        clicks.append(table["p_click"].to_numpy())
    assert np.array_equal(*clicks)


def drawn(**world: Any) -> tuple[Users, Items]:
    made = world_of("easy", {"users": 1000, "items": 200, **world})
    return make_users(made, 4), make_items(made, 4)


def test_a_further_domain_shares_as_much_of_taste_as_it_is_told() -> None:
    users, items = drawn()
    for overlap in (0.0, 0.64, 1.0):
        others, products = drawn(domain=1, overlap=overlap, shared_users=0.5)
        same = users.keys == others.keys
        assert same.tolist() == [True] * 500 + [False] * 500
        assert (users.profile["tier"] == others.profile["tier"])[:500].all()
        for part in ("latent", "later"):
            one, other = getattr(users, part), getattr(others, part)
            found = np.corrcoef(one[same].ravel(), other[same].ravel())[0, 1]
            assert found == pytest.approx(overlap**0.5, abs=0.1)
            assert abs(np.corrcoef(one[~same].ravel(), other[~same].ravel())[0, 1]) < 0.3
            assert other.std() == pytest.approx(1.0, abs=0.1)
        assert not set(items.keys) & set(products.keys)
    # Domains of one seed differ from one another too.
    second, _ = drawn(domain=2, overlap=0.0)
    assert abs(np.corrcoef(second.latent.ravel(), others.latent.ravel())[0, 1]) < 0.1


def test_an_attribute_means_the_same_in_a_further_domain_as_far_as_they_overlap() -> None:
    """The mean latents of each value's products: alike at an overlap of 1, unlike at 0."""

    def meaning(products: Items) -> Any:
        rows = products.values["style"]
        return np.stack([products.latent[rows == value].mean(0) for value in range(6)])

    _, base = drawn(items=4000, content=1.0)
    likeness = [
        np.corrcoef(
            meaning(base).ravel(),
            meaning(drawn(items=4000, content=1.0, domain=1, overlap=overlap)[1]).ravel(),
        )[0, 1]
        for overlap in (1.0, 0.0)
    ]
    assert likeness[0] > 0.9
    assert abs(likeness[1]) < 0.5


def test_position_tells_nothing_of_the_product_in_a_shuffled_slate_only(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    events = pq.read_table(folder / "events.parquet", filters=[("event", "==", "impression")])
    truth = read_truth(folder / "truth").exposures(events["id"])
    position = events["position"].to_numpy()
    shuffled = events["shuffled"].to_numpy(zero_copy_only=False).astype(bool)
    # The later stages have no position in them: their chance is the product's and user's own.
    own = np.log(truth["k_cart_given"] / (1 - truth["k_cart_given"]))
    apart = {rows: np.corrcoef(position[m], own[m])[0, 1]
             for rows, m in (("shuffled", shuffled), ("ranked", ~shuffled))}  # fmt: skip
    assert abs(apart["shuffled"]) < 4 / np.sqrt(shuffled.sum())
    assert apart["ranked"] < -0.05
    assert shuffled.mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("model", ["logit", "pbm"])
def test_the_examination_curve_is_the_planted_one(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "shop"
    simulate(folder, "easy", position_model=model, confounder=0.0, theta=0.7, **SMALL)
    table = pq.read_table(folder / "truth" / "exposures.parquet")
    exam, click = table["exam"].to_numpy(), table["p_click"].to_numpy()
    # (1 + 3) ** -0.7 = 0.3789
    assert np.isclose(exam, 0.3789, atol=1e-4).any()
    events = pq.read_table(folder / "events.parquet", filters=[("event", "==", "impression")])
    assert np.allclose(exam, (1.0 + events["position"].to_numpy()) ** -0.7)
    if model == "pbm":
        assert (click <= exam).all()
    assert click.mean() == pytest.approx(0.2, abs=1e-6)


def test_a_slate_has_one_user_one_moment_one_device_and_no_product_twice(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    events = pq.read_table(folder / "events.parquet", filters=[("event", "==", "impression")])
    keys = events.select(["request", "item_id"]).group_by(["request", "item_id"]).aggregate([])
    assert keys.num_rows == events.num_rows
    slates = events.group_by("request").aggregate(
        [(name, "count_distinct") for name in ("user_id", "ts", "device")]
        + [("position", "max"), ("position", "count")]
    )
    for name in ("user_id", "ts", "device"):
        assert set(slates[f"{name}_count_distinct"].to_pylist()) == {1}
    assert (slates["position_max"].to_numpy() + 1 == slates["position_count"].to_numpy()).all()


def test_the_log_is_in_order_and_stages_come_after_what_they_need(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    events = pq.read_table(folder / "events.parquet")
    times = events["ts"].cast("int64").to_numpy()
    assert (np.diff(times) >= 0).all()
    first: dict[tuple[str, int, str], int] = {}
    for request, item, event, time in zip(
        *(events[name].to_pylist() for name in ("request", "item_id", "event")), times, strict=True
    ):
        first[request, item, event] = time
    order = ("impression", *STAGES)
    for (request, item, event), time in first.items():
        if event != "impression":
            before = order[order.index(event) - 1]
            assert first[request, item, before] < time


def test_the_log_runs_on_until_the_windows_of_its_last_slates_have_closed(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    events = pq.read_table(folder / "events.parquet")
    shown = np.array(events["event"].to_pylist()) == "impression"
    times = events["ts"].cast("int64").to_numpy()
    assert times.max() <= times[shown].max() + 73 * 3_600_000_000


def test_new_products_appear_only_late(easy: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = easy
    items = pq.read_table(folder / "truth" / "items.parquet")
    late = {
        key: arrival
        for key, arrival in zip(
            items["item_id"].to_pylist(), items["arrival"].to_pylist(), strict=True
        )
        if arrival > 0
    }
    assert 0 < len(late) < 0.1 * items.num_rows
    assert min(late.values()) >= 0.85
    events = pq.read_table(folder / "events.parquet", columns=["item_id", "ts"])
    share = (events["ts"].cast("int64").to_numpy() - EPOCH_US) / (90 * 24 * 3.6e9)
    item = events["item_id"].to_numpy()
    seen = 0
    for key, arrival in late.items():
        assert (share[item == key] >= arrival).all()
        seen += (item == key).sum()
    assert seen > 0


def test_spans_slice_to_values_and_every_attribute_is_left_out_now_and_then(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    items = pq.read_table(folder / "items.parquet")
    counts = dict.fromkeys(ATTRIBUTES, 0)
    for title, spans in zip(items["title"].to_pylist(), items["spans"].to_pylist(), strict=True):
        for span in spans:
            text = title[span["start"] : span["end"]]
            assert text and text == text.strip()
            counts[span["attribute"]] += 1
    assert all(0.5 * items.num_rows < count < items.num_rows for count in counts.values())


def test_what_the_shop_sees_holds_no_planted_number(easy: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = easy
    seen = {name: set(pq.read_schema(folder / f"{name}.parquet").names)
            for name in ("items", "users", "events")}  # fmt: skip
    assert seen["items"] == {"item_id", "title", "category", "brand", "price", "colour",
                             "material", "style", "spans"}  # fmt: skip
    assert seen["users"] == {"user_id", "city", *PROFILE}
    assert seen["events"] == {"id", "user_id", "item_id", "ts", "event", "request", "position",
                              "device", "shuffled"}  # fmt: skip


def test_nothing_that_names_an_exposure_tells_its_outcome(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    ids, found = labels(folder)
    events = pq.read_table(folder / "events.parquet", filters=[("event", "==", "impression")])
    device = np.array(events["device"].to_pylist())
    overall = found["click"].mean()
    slack = 6 * np.sqrt(overall / len(ids) * 3)
    for each in set(device):
        assert abs(found["click"][device == each].mean() - overall) < slack
    # Ids count the exposures on: they tell time and place in the slate, and nothing else.
    assert np.array_equal(np.sort(np.array(ids, dtype=np.int64)), np.arange(len(ids)))
    surprise = found["click"] - read_truth(folder / "truth").exposures(ids)["p_click"]
    digit = np.array([int(each) for each in ids]) % 7
    assert abs(np.corrcoef(digit, surprise)[0, 1]) < 4 / np.sqrt(len(ids))


def test_the_toml_describes_a_shop_with_every_family_of_task(
    easy: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = easy
    shop = read_shop(folder)
    assert [task.name for task in shop.of_family("funnel")] == list(STAGES)
    assert [task.name for task in shop.of_family("profile")] == [f"profile.{c}" for c in PROFILE]
    assert shop.of_family("match") and shop.of_family("extract")
    assert shop.seed == 1
    assert shop.truth is not None
    assert isinstance(read_truth(shop.root / shop.truth.path), Truth)


def test_a_made_shop_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    small = {"users": 20, "items": 60, "exposures": 200}
    folder = tmp_path / "deep" / "shop"
    simulate(folder, seed=1, **small)
    before = (folder / "events.parquet").read_bytes()
    simulate(folder, seed=2, **small)
    assert (folder / "events.parquet").read_bytes() != before
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["shop"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'notes.txt', which is not part of a made shop"):
        simulate(folder, **small)
    assert (folder / "notes.txt").read_text() == "mine"
    own = tmp_path / "own"
    own.mkdir()
    (own / "shop.toml").write_text("name = 'real'")
    with pytest.raises(ConfigError, match=r"holds 'shop.toml'"):
        simulate(own, **small)
    with pytest.raises(ConfigError, match="is a file"):
        simulate(own / "shop.toml", **small)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(simulation, "_write_truth", fail)
    with pytest.raises(OSError, match="disk full"):
        simulate(tmp_path / "shop", users=20, items=60, exposures=200)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kapa": 1.0}, r"simulate.kapa: no 'kapa' here \(did you mean 'kappa'\?\)"),
        ({"kappa": 1.5}, "simulate.kappa: 1.5 is no share; give 0 to 1"),
        ({"kappa": float("nan")}, "simulate.kappa: nan is no share"),
        ({"sign": 0}, "simulate.sign: 0 is no sign; give 1 or -1"),
        ({"users": 2}, "simulate.users: 2 is too small; give 10 or more"),
        ({"users": 2.5}, "simulate.users: int is wanted, found 2.5"),
        ({"users": True}, "simulate.users: int is wanted, found True"),
        ({"language": "fr"}, "simulate.language: no 'fr' here"),
        ({"click_rate": 1.0}, "simulate.click_rate: 1.0 is no rate"),
        ({"delay_shape": 0.0}, "simulate.delay_shape: 0.0 must be positive"),
        (
            {"click_rate": 0.9, "position_model": "pbm"},
            "simulate.click_rate: 0.9 is more than is examined at theta 0.5; give less than",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "s", **{"items": 60, "users": 20, "exposures": 500, **overrides})
    assert not (tmp_path / "s").exists()


def test_an_unknown_preset_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"preset: no 'eazy' here \(did you mean 'easy'\?\)"):
        simulate(tmp_path / "s", "eazy")


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(-(2**40), 2**40),
    kappa=st.floats(0, 1),
    sign=st.sampled_from([-1, 1]),
    confounder=st.floats(0, 3),
    positions=st.integers(1, 12),
    candidates=st.integers(2, 20),
    width=st.integers(1, 9),
    model=st.sampled_from(["logit", "pbm"]),
)
def test_any_small_world_is_whole(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    kappa: float,
    sign: int,
    confounder: float,
    positions: int,
    candidates: int,
    width: int,
    model: str,
) -> None:
    folder: Path = tmp_path_factory.mktemp("any") / "shop"
    answer = simulate(
        folder, seed=seed, users=12, items=40, exposures=300, kappa=kappa, sign=sign,
        confounder=confounder, positions=positions, candidates=candidates, width=width,
        position_model=model, theta=0.2,
    )  # fmt: skip
    table = pq.read_table(folder / "truth" / "exposures.parquet")
    assert table.num_rows == answer["exposures"] > 0
    for stage in STAGES:
        assert np.isfinite(table[f"k_{stage}"].to_numpy()).all()
    users = pq.read_table(folder / "truth" / "users.parquet")
    for column, values in PROFILE.items():
        total = sum(users[f"posterior_{column}_{value}"].to_numpy() for value in values)
        assert np.allclose(total, 1)

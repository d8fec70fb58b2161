import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.tables.titles import (
    ATTRIBUTES,
    CATEGORIES,
    LANGUAGES,
    VALUES,
    Title,
    Wording,
    write_title,
)

PLAIN = {"omission": 0.0, "unseen": 0.0, "typo": 0.0, "noise": 0.0}


def draw_title(seed: int, wording: Wording) -> tuple[dict[str, int], Title]:
    draw = random.Random(seed)
    values = {name: draw.randrange(len(VALUES[name])) for name in ATTRIBUTES}
    return values, write_title(draw.randrange(len(CATEGORIES)), values, wording, draw)


@given(seed=st.integers(0, 10**6), language=st.sampled_from(LANGUAGES))
def test_a_plain_title_holds_every_value_in_a_listed_spelling(seed: int, language: str) -> None:
    values, title = draw_title(seed, Wording(language, **PLAIN))
    assert {name for _, _, name in title.spans} == set(ATTRIBUTES)
    for start, end, name in title.spans:
        value = VALUES[name][values[name]]
        assert title.text[start:end].lower() in {word.lower() for word in value.en + value.zh}


@given(seed=st.integers(0, 10**6), language=st.sampled_from(LANGUAGES))
def test_spans_are_in_order_apart_and_never_begin_or_end_with_a_space(
    seed: int, language: str
) -> None:
    wording = Wording(language, unseen=0.5, typo=1.0, noise=1.0)
    _, title = draw_title(seed, wording)
    reached = 0
    for start, end, name in title.spans:
        assert name in ATTRIBUTES
        assert reached <= start < end <= len(title.text)
        assert title.text[start:end] == title.text[start:end].strip()
        reached = end


def test_spans_count_code_points_where_a_title_begins_beyond_the_basic_plane() -> None:
    found = 0
    for seed in range(400):
        values, title = draw_title(seed, Wording("zh", noise=1.0, omission=0, unseen=0, typo=0))
        if title.text.startswith("🔥"):
            found += 1
            start, end, name = title.spans[0]
            value = VALUES[name][values[name]]
            assert title.text[start:end] in value.zh + value.en
    assert found > 20


def test_both_languages_get_about_half_of_the_titles() -> None:
    titles = [draw_title(seed, Wording(**PLAIN))[1].text for seed in range(400)]
    nouns = [word.lower() for each in CATEGORIES for word in each.en]
    english = sum(any(noun in title.lower() for noun in nouns) for title in titles)
    assert 140 < english < 260


@pytest.mark.parametrize("language", ["zh", "en"])
def test_values_come_in_several_orders_and_spellings(language: str) -> None:
    titles = [draw_title(seed, Wording(language, **PLAIN)) for seed in range(300)]
    assert len({tuple(name for _, _, name in title.spans) for _, title in titles}) == 4
    black = {
        title.text[start:end].lower()
        for values, title in titles
        for start, end, name in title.spans
        if name == "colour" and values[name] == 0
    }
    assert black == ({"黑色", "纯黑"} if language == "zh" else {"black", "jet black"})


def test_the_shares_of_mess_are_as_asked() -> None:
    always = Wording("en", omission=0.0, unseen=1.0, typo=0.0, noise=0.0)
    known = {word.lower() for each in VALUES["colour"] for word in each.en}
    for seed in range(50):
        _, title = draw_title(seed, always)
        (colour,) = (title.text[s:e] for s, e, name in title.spans if name == "colour")
        assert colour.lower() not in known
    counts = dict.fromkeys(ATTRIBUTES, 0)
    for seed in range(1000):
        for _, _, name in draw_title(seed, Wording("zh"))[1].spans:
            counts[name] += 1
    # OMITTED: brand 5 %, size 35 %; 4 standard errors are 0.03 and 0.06.
    assert counts["brand"] / 1000 == pytest.approx(0.95, abs=0.03)
    assert counts["size"] / 1000 == pytest.approx(0.65, abs=0.06)


def test_some_words_mean_two_things() -> None:
    brands = {word.lower() for each in VALUES["brand"] for word in each.en + each.zh}
    colours = {word.lower() for each in VALUES["colour"] for word in each.en + each.zh}
    assert {"orange", "rose", "slate"} <= brands & colours
    assert any(colour.startswith("苹果") for colour in colours) and "苹果" in brands

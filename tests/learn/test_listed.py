"""Values are listed from training titles and found in others."""

from daogou.learn import listed


def test_a_listed_value_is_found_whole_and_the_longest_wins() -> None:
    values = listed.fit_lookup(
        ["red boot", "red wine shoe", "red sole"],
        [[(0, 3, "colour")], [(0, 8, "colour")], [(0, 3, "colour")]],
        [["colour"]] * 3,
    )
    assert listed.look_up("Red  wine boot, red", values) == [
        (0, 9, "colour"),
        (16, 19, "colour"),
    ]


def test_a_word_that_is_seldom_a_value_is_not_listed() -> None:
    values = listed.fit_lookup(
        ["may", "may be", "may not"], [[(0, 3, "month")], [], []], [["month"]] * 3
    )
    assert values == {}

import pytest

from daogou.errors import ConfigError
from daogou.guide import words


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_every_sentence_can_be_said_in_every_language(lang: str) -> None:
    said = [
        words.because_of_history("cart", "red boot", False, lang),
        words.because_of_history("click", "red boot", True, lang),
        words.because_of_value("brand", "Acme", lang),
        words.because_of_many(0.931, lang),
        words.explanation("red boot", "purchase", 0.1234, (["item.brand"], ["user.id"]), lang),
        words.explanation("red boot", "purchase", 0.1234, ([], []), lang),
        words.portrait({}, {}, "new", None, lang),
        words.portrait(
            {"gender": ("F", 0.5)},
            {"brand": "Acme"},
            "lapsing",
            {"every_days": 2.0, "silent_days": 9.0},
            lang,
        ),
    ]
    assert len(set(said)) == len(said)
    has_chinese = [any("一" <= letter <= "鿿" for letter in text) for text in said]
    assert has_chinese == [lang == "zh"] * len(said)


def test_reasons_say_what_was_done() -> None:
    assert words.because_of_history("click", "red boot", False, "en") == (
        "because you looked at red boot"
    )
    assert words.because_of_history("add_to_cart", "靴子", False, "zh") == "因为你加购过「靴子」"
    assert words.because_of_many(0.931, "en") == "popular: liked more than 93 % of the catalogue"


def test_an_explanation_names_both_sides() -> None:
    assert words.explanation(
        "red boot", "purchase", 0.1234, (["item.brand", "user.history"], ["item.id"]), "en"
    ) == (
        "red boot: the chance of purchase is 12.3 %; for it: brand, history; "
        "against it: the product itself."
    )


def test_another_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="lang: no 'fr' here; known: en, zh"):
        words.check_language("fr")

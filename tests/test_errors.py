"""One short tree of errors, and the sentence about a name that is not there."""

import inspect

import pytest

from daogou import errors
from daogou.errors import DaogouError, unknown

RAISED = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, Exception) and each is not DaogouError
]


@pytest.mark.parametrize("error", RAISED)
def test_every_error_is_caught_as_ours_and_drawn_in_the_tree(error: type[Exception]) -> None:
    assert error.__bases__ == (DaogouError,)
    assert error.__doc__
    assert f"─ {error.__name__}" in (errors.__doc__ or "")


def test_ours_are_not_caught_as_somebody_elses() -> None:
    for builtin in (ValueError, KeyError, OSError, RuntimeError):
        assert not any(issubclass(error, builtin) for error in RAISED)


def test_a_name_near_a_legal_one_gets_it_offered() -> None:
    sentence = unknown("brnad", ["price", "brand"])
    assert sentence == "no 'brnad' here (did you mean 'brand'?); known: brand, price"


def test_a_name_near_nothing_gets_the_list_alone() -> None:
    assert unknown("xyz", ["price"]) == "no 'xyz' here; known: price"
    assert unknown("xyz", []) == "no 'xyz' here; known: none"


def test_a_name_that_would_break_the_line_is_quoted() -> None:
    assert unknown("x", ["b", "a\nb"]) == "no 'x' here; known: 'a\\nb', b"

"""The public names: few, real, sorted, and all of them documented."""

import inspect

import pytest

import daogou

NAMES = list(getattr(daogou, "__all__", ()))
pytestmark = pytest.mark.skipif(not NAMES, reason="the package names nothing public yet")


def test_there_are_at_most_twenty() -> None:
    assert len(NAMES) <= 20


def test_each_is_there_once_in_order_and_not_private() -> None:
    public = [name for name in NAMES if name != "__version__"]
    assert len(set(NAMES)) == len(NAMES)
    assert public == sorted(public)
    assert not [name for name in public if name.startswith("_")]
    assert not [name for name in NAMES if not hasattr(daogou, name)]


def test_nothing_else_of_ours_looks_public() -> None:
    shown = {
        name
        for name, value in vars(daogou).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert shown <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is(name: str) -> None:
    value = getattr(daogou, name)
    if callable(value):
        assert inspect.getdoc(value)

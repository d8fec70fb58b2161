"""What training asks of the machine, and that it gives it back."""

import pytest
import torch

from daogou.errors import ConfigError
from daogou.learn.machine import device_of, fast_memory


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == device_of("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == device_of("cuda").type == "cuda"


def test_a_gpu_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"fit\.device: 'cuda' is asked for.*say 'cpu'"):
        device_of("cuda")


def test_tiny_numbers_are_zero_in_training_and_only_there() -> None:
    tiny = torch.tensor([1e-20])
    assert (tiny * tiny).item() != 0  # 1e-40 is below the smallest normal number, 1.2e-38
    with fast_memory():
        assert (tiny * tiny).item() == 0
    assert (tiny * tiny).item() != 0


def test_a_failure_in_training_leaves_tiny_numbers_as_they_were() -> None:
    with pytest.raises(RuntimeError), fast_memory():
        raise RuntimeError
    tiny = torch.tensor([1e-20])
    assert (tiny * tiny).item() != 0


def test_where_the_c_library_is_another_nothing_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daogou.learn.machine.ctypes.CDLL", lambda name: object())
    tiny = torch.tensor([1e-20])
    with fast_memory():  # and the rest of it holds all the same
        assert (tiny * tiny).item() == 0
    assert (tiny * tiny).item() != 0

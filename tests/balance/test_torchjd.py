import sys

import pytest

from daogou.balance.torchjd import torchjd
from daogou.errors import ConfigError


def test_without_torchjd_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(
        ConfigError, match=r"fit\.balancer: UPGradWeighting needs TorchJD.*daogou\[balancers\]"
    ):
        torchjd("aggregation", "UPGradWeighting")

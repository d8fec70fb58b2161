"""Who carries questions to shops and brings their answers."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from daogou.errors import DaogouError
from daogou.learn.aggregate import Tensors
from daogou.learn.silo import Reply, Silo


class Shops(Protocol):
    """Who carries questions to shops and brings their answers."""

    @property
    def names(self) -> Collection[str]:
        """The shops there are."""

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        """The answers of the shops that answered, or why one could not."""


class Here:
    """Shops in this process, asked one after another."""

    def __init__(self, silos: Mapping[str, Silo]) -> None:
        self.silos = silos

    @property
    def names(self) -> Collection[str]:
        """The shops there are."""
        return self.silos

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        """The answers of all shops."""
        found: dict[str, Reply | DaogouError] = {}
        for name, silo in self.silos.items():
            try:
                found[name] = silo.answer(what, number, document, sent)
            except DaogouError as error:
                found[name] = error
        return found

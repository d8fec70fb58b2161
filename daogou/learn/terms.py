"""What shops that learn together agree on, and which weights leave a shop by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from daogou.config import make
from daogou.errors import ConfigError, unknown
from daogou.learn.aggregate import RULES, SEES_EACH
from daogou.learn.private import privacy_of
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel

ITEMS: Final = ("union", "home")


@dataclass(frozen=True)
class Terms:
    """What ``[federate]`` may say: what shops that learn together agree on."""

    rounds: int = 10
    patience: int = 3  # rounds without a better score before learning stops
    passes: int = 1  # over a shop's rows between two exchanges
    rule: str = "fedavg"  # how updates become one: one of RULES
    prox: float = 0.0  # FedProx: pull of a shop's dense weights back to the shared ones
    trim: float = 0.2  # trimmed_mean: share of the shops that goes at either end
    norm_bound: float = 0.0  # longest update, in medians of the round's; 0 = any length
    server_rate: float = 0.01  # fedadam: learning rate of the server
    items: str = "union"  # rows of products: shared by digests of their ids, or kept at home
    keep: tuple[str, ...] = ()  # beginnings of the names of further weights that stay at home
    least: int = 1  # sound updates without which a round changes nothing
    privacy: Mapping[str, Any] | None = None  # what leaves a shop is private: `Privacy`
    audit: float = 0.0  # share of each shop's users who teach nothing, to ask who was in it
    secure: bool = False  # the server learns the sum of the shops' updates, and none of them
    canaries: int = 0  # invented exposures, of which a half teach, to ask which


def terms_of(table: Any) -> Terms:
    """``[federate]``, checked; every problem at once."""
    terms = make("federate", Terms, table)
    named = (("rule", terms.rule, RULES), ("items", terms.items, ITEMS))
    problems = [f"federate.{key}: {unknown(w, words)}" for key, w, words in named if w not in words]
    for name, value in vars(terms).items():
        if name in ("rounds", "passes", "least") and value < 1:
            problems.append(f"federate.{name}: {value}; give 1 or more")
        elif isinstance(value, int | float) and not 0 <= value < float("inf"):
            problems.append(f"federate.{name}: {value}; give 0 or more")
    if terms.trim >= 0.5:
        problems.append(f"federate.trim: {terms.trim}; less than half can go at either end")
    if terms.audit >= 1:
        problems.append(f"federate.audit: {terms.audit}; somebody has to teach, give less than 1")
    sees = f"the rule {terms.rule!r}" if terms.rule in SEES_EACH else "norm_bound"
    if terms.secure and (terms.rule in SEES_EACH or terms.norm_bound):
        problems.append(
            f"federate.secure: {sees} has to see each shop's update, which it hides; take "
            "rule = 'fedavg' or 'fedadam' and no norm_bound, or leave secure out"
        )
    if terms.privacy is not None:
        try:
            if privacy_of(terms.privacy).of_labels and terms.audit:
                problems.append("federate.audit: finds users, who are public where labels are not")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return terms


def from_row(weight: Tensor, first: int) -> Tensor:
    """The rows of a weight from one on."""
    return weight[first:] if first else weight


def travelling(model: JointModel, terms: Terms) -> dict[str, int]:
    """The weights that leave a shop, each with the first of its rows that does.

    Rows of users never do, and those of products only where all agreed on them.
    """
    at_home = {} if model.user is None else {id(model.user.ids.weight): len(model.user.ids.weight)}
    if model.item is not None and terms.items == "home":
        at_home[id(model.item.ids.weight)] = len(model.item.ids.weight)
    for head in model.heads.values():
        if isinstance(head, FunnelHead) and head.own is not None:
            rows = head.own.n_users + (head.own.n_items if terms.items == "home" else 0)
            at_home[id(head.own.rows.weight)] = rows * head.own.n_tasks
    named = {name: each for name, each in model.named_parameters() if each.requires_grad}
    for start in terms.keep:
        if not any(name.startswith(start) for name in named):
            raise ConfigError(f"federate.keep: no weight begins with {start!r}; e.g. 'heads.match'")
    untaught = (f"heads.{family}." for family in untaught_by(terms))
    kept = {name for name in named if name.startswith((*terms.keep, *untaught))}
    return {
        name: at_home.get(id(each), 0)
        for name, each in named.items()
        if name not in kept and (id(each) not in at_home or at_home[id(each)] < len(each))
    }


def untaught_by(terms: Terms) -> tuple[str, ...]:
    """The families of tasks that nothing private teaches, which have no say in the score either.

    Titles are in no private step; and profiles are read from histories.
    """
    if terms.privacy is None:
        return ()
    privacy = privacy_of(terms.privacy)
    titles = () if privacy.of_labels else ("extract",)
    return titles if privacy.reads_past else (*titles, "profile")

"""Requests made from the API's own description, right ones and wrong ones: none is a 5xx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from daogou.guide import Guide
from daogou.serve.app import make_app
from daogou.serve.auth import new_key
from daogou.serve.limits import Limits
from daogou.serve.meters import Meters
from daogou.serve.service import Service
from daogou.serve.store import Store
from tests.serve.conftest import calling

schemathesis = pytest.importorskip("schemathesis", reason="it comes with daogou[dev]")
EXAMPLES = 20  # requests of each kind to each operation
MODES = schemathesis.GenerationMode
SENT = {"method": "method", "url": "url", "params": "params", "json": "json", "data": "content"}


class Nobody:
    """What an app asks of its service before the first request."""

    limits, meters = Limits(), Meters()

    class store:
        now_us = staticmethod(int)


def operations() -> dict[str, Any]:
    """Every operation that the app describes, by its method and path."""
    described = make_app(cast(Service, Nobody()), at_home=True).openapi()
    schema = schemathesis.openapi.from_dict(described)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


@schemathesis.serializer("application/x-ndjson")  # type: ignore[untyped-decorator]
def lines(_context: Any, value: Any) -> bytes:
    """A body of lines, as a client that knows nothing of them might write it."""
    return str(value).encode("utf-8", "replace")


OPERATIONS = operations()


@pytest.fixture(scope="module")
def asked(
    guide: Guide, made_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A client of a service that takes any number of requests, and a key that opens all."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('schema') / 'store.db'}")
    text, key = new_key("all", "admin", store.now_us())
    store.keys.add(key)
    with pytest.MonkeyPatch.context() as patched:
        load = Guide.load
        patched.setattr(Guide, "load", lambda run: guide if run == made_run else load(run))
        service = Service(made_run, store, Limits(rate_per_s=1e9, burst=1e9), Meters())
        with calling(service) as client:
            yield client, {"Authorization": f"Bearer {text}"}


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_is_answered_with_a_fault(
    label: str, asked: tuple[TestClient, dict[str, str]], guide: Guide
) -> None:
    client, headers = asked
    operation = OPERATIONS[label]
    ids = {"user": next(iter(guide.artifact.store.user_rows)), "item": guide.catalogue.keys[1]}
    wanted = {name: ids[name] for name in ids if f"{{{name}}}" in label}
    kinds = [operation.as_strategy(generation_mode=mode) for mode in MODES]
    if wanted:
        kinds.append(operation.as_strategy(path_parameters=wanted))

    @settings(
        max_examples=EXAMPLES * len(kinds), deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(st.one_of(kinds))
    def ask(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://127.0.0.1")
        sent = {ours: request[name] for name, ours in SENT.items() if name in request}
        kind = {k: v for k, v in request["headers"].items() if k.lower() == "content-type"}
        answer = client.request(**sent, headers={**kind, **headers})
        assert answer.status_code < 500, (sent, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", sent

    ask()


def test_every_operation_is_tested() -> None:
    assert {"POST /v1/recommend", "PUT /v1/admin/lineup", "GET /readyz"} <= set(OPERATIONS)
    assert len(OPERATIONS) >= 41

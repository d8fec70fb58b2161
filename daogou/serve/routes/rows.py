"""Rows of a batch, each judged by itself."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from daogou.serve.events import reasons
from daogou.serve.service import Service

Row = TypeVar("Row", bound=BaseModel)


def check_batch(name: str, rows: Sequence[Any], service: Service) -> None:
    """Refuse a batch that is larger than the server takes."""
    most = service.limits.batch
    if len(rows) > most:
        raise HTTPException(
            413, f"{name}: {len(rows)} rows; {most} are the most, send the rest next"
        )


def read_rows(kind: type[Row], rows: Sequence[Any]) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows that are right, and what is wrong with the others, ``{"row", "reason"}``."""
    right: list[Row] = []
    wrong: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        try:
            right.append(kind.model_validate(row))
        except ValidationError as error:
            lines = reasons(error.errors(), list(kind.model_fields))
            wrong.append({"row": place, "reason": "; ".join(lines)})
    return right, wrong

"""What a request asks: its values, checked, and the reading that answers it."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import polars as pl
from starlette.requests import Request

from dissectdb.reports.words import plain
from dissectdb.serve.embeddings import Embeddings
from dissectdb.serve.models import Models
from dissectdb.serve.store import Reading, Store

LARGEST = 2**31 - 1
LONGEST = 2000  # characters of a value, except of a query of the SQL page


class NotThere(LookupError):
    """What the address names is not in the warehouse, or is mistyped; the message says what is missing or allowed."""


class Asked:
    """A request: its values, and what it has read so far."""

    def __init__(self, request: Request, store: Store, models: Models, embeddings: Embeddings) -> None:
        self.request = request
        self.store = store
        self.models = models
        self.embeddings = embeddings
        self.path = request.url.path
        try:
            self.dissection = self.number("dissection")
            self._mistyped = None
        except NotThere as error:  # raised by check(): the page that says so needs this object, too
            self.dissection, self._mistyped = None, error
        self.reading: Reading = store.reading(self.dissection)

    def check(self) -> None:
        """Raise NotThere if the dissection that the address names is mistyped."""
        if self._mistyped:
            raise self._mistyped

    def text(self, name: str, longest: int = LONGEST) -> str | None:
        """A value of the address; None if it is absent or empty."""
        value = self.request.query_params.get(name, "").replace("\0", "").strip()
        return value[:longest] or None

    def exact(self, name: str) -> str | None:
        """A name as it is in the warehouse, with its spaces; None if it is absent."""
        return self.request.query_params.get(name)

    def number(self, name: str) -> int | None:
        """A whole number from 0 of the address; None if it is absent or empty. Raises NotThere if it is mistyped."""
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 11 and int(value) <= LARGEST):
            raise _mistyped(name, value, f"a whole number from 0 to {LARGEST}")
        return int(value)

    def real(self, name: str) -> float | None:
        """A finite number of the address; None if it is absent or empty. Raises NotThere if it is mistyped."""
        value = self.text(name)
        if value is None:
            return None
        try:
            known = float(value)
        except ValueError:
            known = float("nan")
        if not math.isfinite(known):
            raise _mistyped(name, value, "a number, such as 0.05")
        return known

    def choice(self, name: str, known: dict[str, Any] | tuple[str, ...]) -> str:
        """One of the known values; the first if it is absent or empty. Raises NotThere if it is mistyped."""
        value = self.text(name)
        if value is None:
            return next(iter(known))
        if value not in known:
            raise _mistyped(name, value, f"one of {', '.join(filter(None, known))}")
        return value

    def rows(self, question: str, **values: Any) -> pl.DataFrame:
        """The rows of a question."""
        return self.reading.rows(question, **values)

    def records(self, question: str, **values: Any) -> list[dict[str, Any]]:
        """The rows of a question as dicts."""
        return self.reading.records(question, **values)

    def one(self, question: str, otherwise: str, **values: Any) -> dict[str, Any]:
        """The only row of a question. Raises NotThere with the text `otherwise` if there is none."""
        found = self.records(question, **values)
        if not found:
            raise NotThere(otherwise)
        return found[0]

    def address(self, path: str, **values: Any) -> str:
        """The address of a page, in the same dissection."""
        kept = {name: value for name, value in values.items() if value is not None and value != ""}
        if self.dissection is not None and "dissection" not in values:
            kept["dissection"] = self.dissection
        return path + (f"?{urlencode(kept)}" if kept else "")

    def here(self, **changed: Any) -> str:
        """The address of this page with some values changed; None removes one."""
        return self.address(self.path, **(dict(self.request.query_params) | changed))


def _mistyped(name: str, value: str, allowed: str) -> NotThere:
    return NotThere(f"The address says {name}={plain(value)[:200]}; {name} is {allowed}")

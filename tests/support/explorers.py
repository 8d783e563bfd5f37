"""The explorer of a warehouse, asked without a network: explorer.get("/neurons"), as a browser that was let in.

with explored(path) as explorer:
    page = explorer.page("/neuron?layer=conv1&unit=0")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from dissectdb.serve.app import create_app
from dissectdb.serve.models import NONE, Models
from dissectdb.serve.store import Store
from dissectdb.warehouse_file import WarehouseFile
from tests.support.pages import Page
from tests.support.waiting import wait_until

TOKEN, PORT = "only-we-know", 8000
HERE = f"http://127.0.0.1:{PORT}"


@dataclass
class Explorer:
    """A client and the store behind it."""

    client: TestClient
    store: Store

    def get(self, path: str, **how: Any) -> Any:
        return self.client.get(path, **how)

    def page(self, path: str, status: int = 200) -> Page:
        """A page, parsed. It must have this status."""
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    def searched(self, text: str) -> Page:
        """The page of a search, once the neurons' embeddings are read."""
        wait_until(lambda: "are being read" not in self.get("/search").text, "the embeddings are read")
        return self.page(f"/search?text={text}")


@contextmanager
def explored(path: Path, *, models: Models = NONE, wait: float = 10) -> Iterator[Explorer]:
    """The explorer of a warehouse; its client has the cookie."""
    store = Store(WarehouseFile(path), wait)
    app = create_app(store, token=TOKEN, port=PORT, models=models)
    with TestClient(app, base_url=HERE) as client:
        assert client.get(f"/static/explorer.css?token={TOKEN}").status_code == 200
        yield Explorer(client, store)

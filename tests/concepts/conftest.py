"""Fixtures for making concept sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from dissectdb.extract.concepts import chat
from tests.support.chat_server import KEY, Maker, Server, handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    state.may_answer.set()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # a client that has left would be a traceback on the stderr of a later test
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.address = f"http://127.0.0.1:{httpd.server_port}/v1"
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(chat, "RETRIES", 0)
    yield state
    state.may_answer.set()
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def maker(server: Server, tmp_path: Path) -> Maker:
    folder = tmp_path / "made"
    folder.mkdir()
    return Maker(server, folder)

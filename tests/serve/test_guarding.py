"""Who is let in: only a browser that was given the token, that asks this server by its name, from its own pages."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.testclient import TestClient

from dissectdb.commands.serve import _listen
from dissectdb.serve.app import FILES, PAGES
from tests.support.explorers import HERE, TOKEN, Explorer

EVERYTHING = [*PAGES, *FILES, "/static/explorer.css", "/static/vega.js", "/nowhere"]


@pytest.fixture
def stranger(tested: Explorer) -> TestClient:
    """A client of the same server without the cookie."""
    return TestClient(tested.client.app, base_url=HERE, follow_redirects=False)


@pytest.mark.parametrize("path", EVERYTHING)
@pytest.mark.parametrize("token", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?token={TOKEN[:-1]}"])
def test_nothing_is_answered_without_the_token(stranger, path, token):
    answer = stranger.get(path + token)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "dissection" not in answer.text


def test_the_token_becomes_a_cookie_and_leaves_the_address(stranger):
    answer = stranger.get(f"/neurons?text=a%26b&token={TOKEN}&sort=z")
    assert (answer.status_code, answer.headers["location"]) == (303, "/neurons?text=a%26b&sort=z")
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/"))
    assert stranger.get("/neurons").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/%2F%2Fevil.example", "/\\evil.example", "///evil.example"])
def test_the_redirect_leads_to_this_server(stranger, path):
    location = stranger.get(f"{HERE}{path}?token={TOKEN}").headers["location"]
    assert location.startswith("/")
    assert location[1:2] not in ("/", "\\")


@pytest.mark.parametrize("cookie", ["", "wrong", "é", TOKEN.upper()])
def test_a_wrong_cookie_is_refused(stranger, cookie):
    headers = {"Cookie": f"dissectdb_8000={cookie}".encode()}
    assert stranger.get("/", headers=headers).status_code == 403


def test_the_cookie_of_another_port_is_not_ours(stranger):
    assert stranger.get("/", headers={"Cookie": f"dissectdb_8001={TOKEN}"}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "localhost.evil.example:8000", ""]
)
def test_another_host_is_refused_even_with_the_cookie(tested, host):
    """After DNS rebinding a browser sends the stranger's name."""
    assert tested.get("/", headers={"Host": host}).status_code == 421


def test_localhost_is_this_server(stranger):
    assert stranger.get(f"/?token={TOKEN}", headers={"Host": "localhost:8000"}).status_code == 303


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:8001", "https://127.0.0.1:8000"]
)
def test_a_post_of_another_origin_is_refused(tested, origin):
    headers = {} if origin is None else {"Origin": origin}
    assert tested.client.post("/try", content=b"x", headers=headers).status_code == 403


def test_a_post_of_our_own_page_is_answered(tested):
    answer = tested.client.post("/try", content=b"x", headers={"Origin": HERE})
    assert answer.status_code == 404
    assert "No study was given" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(tested, method):
    assert tested.client.request(method, "/").status_code == 405


@pytest.mark.parametrize("path", ["/", "/static/explorer.js", "/picture?id=1", "/nowhere", "/sql.csv?q=select+1+as+a"])
def test_every_answer_forbids_other_scripts_frames_and_guessing(tested, path):
    headers = tested.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../asked.py",
        "/static/..%2Fasked.py",
        "/static/%2e%2e/%2e%2e/pyproject.toml",
        "/static//etc/passwd",
        "/static/%2Fetc%2Fpasswd",
        "/static/explorer.css/../../app.py",
        "/static/templates%2Fbase.html.jinja",
        "/static/explorer.css%00.py",
    ],
)
def test_no_path_leads_to_a_file(tested, path):
    answer = tested.client.get(f"{HERE}{path}")
    assert answer.status_code == 404
    assert len(answer.content) < 300


def test_an_answer_does_not_wait_for_the_last_ones_acknowledgement():
    async def is_undelayed() -> bool:
        found = asyncio.get_running_loop().create_future()

        async def answer(_, writer: asyncio.StreamWriter) -> None:
            options = writer.get_extra_info("socket")
            found.set_result(bool(options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        listener = _listen(0)
        async with await asyncio.start_server(answer, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            is_set = await asyncio.wait_for(found, 30)
            writer.close()
        return is_set

    assert asyncio.run(is_undelayed())

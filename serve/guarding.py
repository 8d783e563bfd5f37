"""Who may ask: a browser on this machine that was given the token, from a page of this server.

app = Guarded(app, token="…", port=8000)

- The Host header must name this server. A page of a stranger whose name is pointed at 127.0.0.1 (DNS rebinding) sends
  its own name.
- The address that the command prints holds a token. It is exchanged for a cookie, which scripts cannot read and which
  browsers do not send with requests that another site starts.
- Whatever is not GET must come from a page of this server, by its Origin header.
- Answers forbid the browser to run other scripts, to ask other servers, and to show a page in a frame of another site.
"""

from __future__ import annotations

import html
import secrets
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would send the Origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REFUSED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dissectdb: not let in</title>
<h1>This page needs the address that <code>dissectdb serve</code> printed</h1>
<p>Open that address once in this browser; it ends with a token. If you came from a link in another program and have
done so already: <a href="{here}">open the page from here</a>.</p>
</html>"""


class Guarded:
    """An ASGI application that answers only those who may ask. port: where the server listens on 127.0.0.1."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self.token = token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.cookie = f"dissectdb_{port}"  # browsers share cookies among the ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket; there is none
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(Request(scope)) or self.app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not pass; None if it may."""
        if request.headers.getlist("host") not in [[host] for host in self.hosts]:
            return PlainTextResponse("This server answers only to its own address.", 421)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Only GET and POST are answered.", 405)
        if request.method == "POST" and request.headers.get("origin") != f"http://{request.headers['host']}":
            return PlainTextResponse("This request comes from another site.", 403)
        if request.method == "GET" and (given := request.query_params.get("token")) is not None:
            return self._let_in(request) if self._is_token(given) else self._not_let_in(request)
        return None if self._is_token(request.cookies.get(self.cookie, "")) else self._not_let_in(request)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def _let_in(self, request: Request) -> Response:
        """The same address without the token, and a cookie, so that the token stays out of the history."""
        answer = RedirectResponse(_here(request), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return answer

    def _not_let_in(self, request: Request) -> Response:
        if request.method == "POST":
            return PlainTextResponse("Open the address that dissectdb serve printed.", 403)
        return HTMLResponse(REFUSED.format(here=html.escape(_here(request))), 403)


def _here(request: Request) -> str:
    """Path and query of a request without the token. The path has one leading slash: two would be another host."""
    rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    path = "/" + request.scope.get("raw_path", b"/").decode("ascii", "ignore").lstrip("/\\")
    return path + (f"?{urlencode(rest)}" if rest else "")

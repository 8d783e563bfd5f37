"""A chat server on this machine that gives the answers of a test, and the commands that make a concept set from it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.worlds import Done, command

KEY = "sk-very-secret-0123456789"

FACES = {"Smile": ["happy"], "Frown": ["sad"], "Closed Eyes": ["sad", "happy"]}


@dataclass
class Server:
    """The replies to come, each (status, body, headers), of which the last is repeated; and the requests so far."""

    replies: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def answers(self, content: Any = None, status: int = 200, headers: dict[str, str] | None = None, **more: Any):
        """Add a reply that is a chat message of this content (as JSON, unless it is a str)."""
        text = content if isinstance(content, str | None) else json.dumps(content)
        finish = more.pop("finish_reason", "stop")
        body = {"choices": [{"index": 0, "message": {"content": text, **more}, "finish_reason": finish}]}
        return self.sends(body, status, headers)

    def sends(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Server:
        """Add a reply with this body (as JSON, unless it is a str)."""
        self.replies.append((status, body, headers or {}))
        return self

    def next(self) -> tuple[int, Any, dict[str, str]]:
        assert self.may_answer.wait(30)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            server.keys.append(self.headers["Authorization"])
            server.paths.append(self.path)
            status, body, headers = server.next()
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            kind = "text/html" if isinstance(body, str) else "application/json"
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def answer(words: dict[str, list[str]]) -> dict[str, Any]:
    return {"concepts": [{"concept": concept, "classes": classes} for concept, classes in words.items()]}


@dataclass(frozen=True)
class Maker:
    """Runs commands against the server. No output and no file of a command may hold the key."""

    server: Server
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "concepts.toml"

    def run(self, *arguments: object) -> Done:
        done = command("concepts", *arguments)
        assert KEY not in done.out + done.err
        assert KEY not in "".join(path.read_text() for path in self.folder.glob("*.toml"))
        return done

    def generate(self, *options: object, classes: str = "happy,sad") -> Done:
        at = ("--endpoint", self.server.address, "--model", "tiny-model", "-o", self.output)
        return self.run("generate", "--classes", classes, *at, *options)

    def label(self, words: str, *options: object, classes: str = "happy,sad") -> Done:
        (self.folder / "words.txt").write_text(words)
        at = ("--endpoint", self.server.address, "--model", "tiny-model", "-o", self.output)
        return self.run("label", self.folder / "words.txt", "--classes", classes, *at, *options)

"""An HTML page, parsed as a browser would parse it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Page(HTMLParser):
    """A page with its tags, scripts, styles, table cells and words."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)  # scripts of JSON
    styles: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else self.inside
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
            if self.tags[-1][1].get("type") == "application/json":
                self.data.append(data)
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.words += data
            if self.cells:
                self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words.split())

    @property
    def charts(self) -> dict[str, Any]:
        return json.loads(self.scripts[0]) if self.scripts else {}

    @property
    def policy(self) -> str:
        return next(attrs["content"] or "" for tag, attrs in self.tags if attrs.get("http-equiv"))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

"""The templates, styles and scripts of the pages. Nothing is fetched from anywhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dissectdb.reports import regions, theme, words
from dissectdb.serve import charts
from dissectdb.serve.asked import Asked

HERE = Path(__file__).resolve().parent
REPORTS = HERE.parent / "reports"
PLAIN = "<!doctype html><html lang=en><meta charset=utf-8><title>dissectdb</title><p>{text} <a href=/>Overview</a>"
DAY = 24 * 3600
PARTS = (
    ("/", "Overview"),
    ("/layers", "Layers"),
    ("/neurons", "Neurons"),
    ("/concepts", "Concepts"),
    ("/search", "Search"),
    ("/try", "Try an image"),
    ("/edits", "Edits"),
    ("/compare", "Compare"),
    ("/sql", "SQL"),
)


def render(template: str, asked: Asked, content: Mapping[str, Any]) -> str:
    """A page as HTML."""
    as_of = asked.reading.as_of
    return environment().get_template(template).render(
        content,
        asked=asked,
        address=asked.address,
        here=asked.here,
        parts=PARTS,
        questions=asked.reading.asked,
        file_name=asked.store.path.name,
        as_of=as_of and datetime.fromtimestamp(as_of),
        version=_version(),
        chart_config=charts.config(),
    )  # fmt: skip


@cache
def environment() -> jinja2.Environment:
    """The templates, which escape every text, with the filters that write numbers and names."""
    loader = jinja2.FileSystemLoader(HERE / "templates")
    found = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"count": words.count, "share": words.share, "number": words.number, "name": words.name}
    found.filters |= {"p_value": words.p_value, "signed": words.signed, "plain": words.plain, "points": words.points}
    found.globals["plural"] = words.plural
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return found


@cache
def _texts() -> dict[str, tuple[str, bytes]]:
    """Name → type and content of what pages load. The name alone decides: no path of the disk is ever asked for."""
    sheets = (REPORTS / "page.css", regions.STYLE, HERE / "explorer.css")
    style = theme.style_sheet().encode() + b"".join(map(_read, sheets))
    return {
        "explorer.css": ("text/css", style),
        "explorer.js": ("text/javascript", _read(HERE / "explorer.js")),
        "sql.js": ("text/javascript", _read(HERE / "sql.js")),
    }


def _read(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _vega() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes seconds, so only when a chart is first drawn."""
    import vl_convert

    return vl_convert.javascript_bundle().encode()  # type: ignore[call-arg]  # its stub lacks the default


@cache
def _version() -> str:
    """Changes with the files, so that browsers may keep them."""
    return hashlib.sha256(b"".join(content for _, content in _texts().values())).hexdigest()[:12]


def serve(request: Request) -> Response:
    """A style or a script, by its name."""
    name = request.path_params["name"]
    headers = {"Cache-Control": f"private, max-age={DAY}"}
    if name == "vega.js":
        return Response(_vega(), media_type="text/javascript", headers=headers)
    if name not in _texts():
        return PlainTextResponse("no such file", 404)
    kind, content = _texts()[name]
    return Response(content, media_type=kind, headers=headers)

"""The report: one HTML file that needs no network, from the rows of a few questions.

rows = {name: warehouse.rows(query) for name, query in QUESTIONS.items()}
write(rows, Path("report.html"))                    # or
html = render(rows, generated_at=datetime.now())

Nothing is fetched: the charts' library, styles and pictures are inside. A content-security policy forbids every
request and every script but the two that are named in it by their hash, so that a class called </script><script>
stays a name even if the escaping should fail.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from reports import sections, sentences, words
from reports.questions import NEURONS_PER_LAYER, QUESTIONS
from reports.sections import Figure
from reports.terminal import save

__all__ = ["QUESTIONS", "render", "write"]

HERE = Path(__file__).resolve().parent
TITLE = "Network dissection"


def render(rows: Mapping[str, pl.DataFrame], *, title: str = TITLE, generated_at: datetime | None = None) -> str:
    """The page as HTML. rows: the answer to every one of QUESTIONS. Raises KeyError naming what is missing."""
    if missing := [name for name in QUESTIONS if name not in rows]:
        raise KeyError(f"no rows for {', '.join(missing)}; the report needs {', '.join(QUESTIONS)}")
    drawn: dict[str, dict[str, Any]] = {}

    def place(figure: Figure) -> str:
        """Keep the chart's specification; the id of the place where it will be drawn."""
        specification = figure.chart.to_dict()
        del specification["$schema"]  # an address that is never fetched, and so is not needed
        drawn[f"chart-{len(drawn)}"] = specification
        return f"chart-{len(drawn) - 1}"

    style, script, library = _read("page.css"), _read("page.js"), _library()
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": words.count, "share": words.share, "number": words.number, "name": words.name}
    environment.filters["p_value"] = words.p_value
    return environment.get_template("page.html.jinja").render(
        _content(rows),
        title=title,
        generated_at=generated_at,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        library=Markup(library),
        place=place,
        drawn=drawn,
        plural=words.plural,
    )


def write(
    rows: Mapping[str, pl.DataFrame], path: Path, *, title: str = TITLE, generated_at: datetime | None = None
) -> None:
    """Write the page to a file, whole or not at all. generated_at: now, unless told otherwise."""
    html = render(rows, title=title, generated_at=generated_at or datetime.now())
    save(html.encode(), path)


def _content(rows: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """What the template lays out; without a dissection, nothing but that."""
    if rows["summary"].is_empty():
        return {"summary": None, "headline": "Nothing has been dissected yet"}
    [summary] = rows["summary"].to_dicts()
    layers, cards = rows["layers"].to_dicts(), sections.neurons(rows)
    return {
        "summary": summary,
        "headline": sentences.headline(summary, layers),
        "sentences": [
            sentences.accuracy(summary, rows["accuracies"].to_dicts()),
            *sentences.interpretability(summary, layers),
            sentences.commonest_concept(summary, rows["concepts_by_neuron"].to_dicts()),
        ],
        "hero": sections.hero(cards),
        "neurons_per_layer": NEURONS_PER_LAYER,
        "analysed": sections.analysed(rows),
        "accuracies": sections.accuracies(rows),
        "layers": sections.layers(rows),
        "trust": sections.trust(rows),
        "most_interpretable": sentences.most_interpretable(layers),
        "is_tested": sentences.is_tested(layers),
        "by_neuron": sections.concepts_by_neuron(rows),
        "by_prediction": sections.concepts_by_prediction(rows),
        "similarities": sections.similarities(rows),
        "neurons": cards,
        "examples": sections.examples(rows),
        "edits": sections.edits(rows),
    }


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes seconds, so once a process."""
    return vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(text: str) -> str:
    """What a content-security policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

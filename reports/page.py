"""The report: one HTML file that works without a network, made from the rows of a few questions.

rows = ask(warehouse.rows)
write(rows, Path("report.html"))                    # or
html = render(rows, generated_at=datetime.now())

The file holds the charts' library, the styles and the pictures, so a browser fetches nothing. A content-security policy
forbids every request, and every script except the two whose hashes it lists. So a class called </script><script> would
be harmless even if the escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from dissectdb.output import save
from dissectdb.reports import gallery, questions, regions, sentences, theme, words
from dissectdb.reports.glossary import Glossary
from dissectdb.reports.parts import Figure
from dissectdb.reports.questions import Ask
from dissectdb.reports.sections import ablations, concepts, edits, overview

__all__ = ["ask", "content", "lay_out", "render", "write", "write_layers"]

Rows = Mapping[str, pl.DataFrame]
HERE = Path(__file__).resolve().parent
QUESTIONS = questions.load("page")


def ask(answer: Ask) -> dict[str, pl.DataFrame]:
    """The rows of every question of the page. answer: returns the rows of a query, as Warehouse.rows does."""
    return {name: question.ask(answer) for name, question in QUESTIONS.items()} | gallery.ask(answer)


def render(
    rows: Rows,
    *,
    title: str = "",
    generated_at: datetime | None = None,
    budget: int = gallery.BUDGET,
    layer_pages: Sequence[tuple[str, Markup]] = (),
) -> str:
    """The page as HTML.

    rows: the answers that ask() returns. title: of the window; by default network and dataset.
    budget: bytes of the gallery's thumbnails. layer_pages: links to them.
    Raises KeyError naming the questions that rows lacks.
    """
    needed = (*QUESTIONS, *gallery.QUESTIONS)
    if missing := [name for name in needed if name not in rows]:
        raise KeyError(f"no rows for {', '.join(missing)}; the report needs {', '.join(needed)}")
    texts = {name: question.sql for name, question in QUESTIONS.items()} | gallery.texts()
    parts = content(rows, budget, layer_pages)
    return lay_out("page.html.jinja", parts, rows, texts, title=title or parts["title"], generated_at=generated_at)


def lay_out(
    template: str,
    content: Mapping[str, Any],
    rows: Rows,
    texts: Mapping[str, str],
    *,
    title: str,
    generated_at: datetime | None = None,
) -> str:
    """A whole page from a template of this folder. rows and texts: what «data» and «SQL» show of each question."""
    drawn: dict[str, dict[str, Any]] = {}
    tables: dict[str, str] = {}

    def place(figure: Figure) -> str:
        """Keep the chart's specification; returns the id of the element in which it is drawn."""
        specification = figure.chart.to_dict()
        del specification["$schema"]  # an address, which is never fetched
        del specification["config"]  # the same for all charts, so the page holds it once
        drawn[f"chart-{len(drawn)}"] = specification
        return f"chart-{len(drawn) - 1}"

    def answer(question: str, keep: bool = True) -> dict[str, str]:
        """The SQL of a question. keep: also put its rows into the page as CSV, for the button that saves them."""
        frame = rows[question]
        if keep:
            flat = frame.select(name for name, kind in frame.schema.items() if _is_plain(kind))
            tables[question] = flat.with_columns(pl.col(pl.Float64).round_sig_figs(6)).write_csv()
        return {"sql": texts[question]}

    style, script = (
        theme.style_sheet() + _read("page.css") + _read("regions.css"),
        _read("page.js") + _read("gallery.js"),
    )
    library, glossary = _library(), Glossary(content.get("summary"))
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template(template)
        .render(
            content,
            title=title,
            generated_at=generated_at,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            library=Markup(library),
            place=place,
            answer=answer,
            drawn=drawn,
            chart_config=theme.CONFIG,
            tables=tables,
            plural=words.plural,
            glossary=glossary,
            term=glossary.term,
            beliefs=sentences.BELIEFS,
            looks=regions.control,
        )
    )


def environment() -> jinja2.Environment:
    """The templates of this folder, which escape every text, with the filters that write numbers and names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"count": words.count, "share": words.share, "number": words.number, "name": words.name}
    environment.filters |= {"p_value": words.p_value, "signed": words.signed}
    return environment


def _is_plain(kind: pl.DataType) -> bool:
    """Whether a CSV file can hold values of this type."""
    return not kind.is_nested() and kind != pl.Binary


def write(rows: Rows, path: Path, *, generated_at: datetime | None = None, **options: Any) -> None:
    """Write the page to a file, whole or not at all. generated_at: by default now. options: of render()."""
    save(render(rows, generated_at=generated_at or datetime.now(), **options).encode(), path)


def write_layers(answer: Ask, rows: Rows, path: Path, *, budget: int = gallery.BUDGET) -> list[tuple[str, Markup]]:
    """Write one page per layer, with its neurons, into a folder beside `path`; returns links for render()."""
    [summary] = rows["summary"].to_dicts()
    folder = path.with_suffix("")
    folder = folder.with_name(folder.name + "_layers")
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for number, layer in enumerate(rows["layers"].to_dicts(), start=1):
        of_layer = gallery.ask(answer, layer["layer"])
        parts = {
            "summary": summary,
            "gallery": (neurons := gallery.data(of_layer, budget)),
            "has_regions": bool(neurons["regions"]),
            "gallery_more": layer["neurons"] > of_layer["gallery"].height,
            "layer_pages": (),
            "of_layer": words.name(layer["layer"]),
            "home": f"../{path.name}",
        }
        html = lay_out(
            "layer.html.jinja",
            parts,
            of_layer,
            gallery.texts(layer["layer"]),
            title=f"{words.plain(layer['layer'])}: {sentences.title(summary)}",
            generated_at=datetime.now(),
        )
        name = f"{number:02}-{words.slug(layer['layer'])}.html"
        save(html.encode(), folder / name)
        links.append((f"{folder.name}/{name}", words.name(layer["layer"], 40)))
    return links


def content(rows: Rows, budget: int = gallery.BUDGET, layer_pages: Sequence[tuple[str, Markup]] = ()) -> dict[str, Any]:
    """The variables of the template; what does not apply is None. Without a dissection, a headline that says so."""
    if rows["summary"].is_empty():
        return {"summary": None, "title": "Network dissection", "eyebrow": "", "headline": NOTHING}
    [summary] = rows["summary"].to_dicts()
    layers = rows["layers"].to_dicts()
    said = [
        *sentences.interpretability(summary, layers),
        sentences.common_labels(rows["common_labels"].to_dicts()),
        sentences.accuracy(summary, rows["accuracies"].to_dicts()),
        sentences.edit_finding(rows["edits"].to_dicts()),
    ]
    neurons, all_neurons = overview.strongest(rows), gallery.data(rows, budget)
    drawings = any(it.drawing for card in neurons for it in card["pictures"])
    parts = {
        "summary": summary,
        "title": sentences.title(summary),
        "eyebrow": sentences.eyebrow(summary),
        "headline": sentences.headline(summary, layers),
        "sentences": [sentence for sentence in said if sentence],
        "neurons": neurons,
        "has_regions": drawings or bool(all_neurons["regions"]),
        "any_mistaken": any(it.mistaken_for is not None for card in neurons for it in card["pictures"]),
        "gallery": all_neurons,
        "gallery_more": sum(layer["neurons"] for layer in layers) > rows["gallery"].height,
        "layer_pages": layer_pages,
        "of_layer": None,
        "is_tested": sentences.is_tested(layers),
        "layers": overview.layers(rows),
        "trust": overview.trust(rows),
        "explained": overview.explained(rows),
        "calibration": overview.calibration(rows),
        "by_neuron": concepts.concepts_by_neuron(rows),
        "by_prediction": concepts.concepts_by_prediction(rows),
        "concept_matrix": concepts.concept_matrix(rows),
        "concept_groups": concepts.concept_groups(rows),
        "similarities": overview.similarities(rows),
        "accuracies": overview.accuracies(rows),
        "confusion": overview.confusion(rows),
        "examples": overview.examples(rows),
        "edits": edits.edits(rows),
        "edited": edits.edited(rows),
        "causes": ablations.causes(rows),
        "analysed": overview.analysed(rows),
        "provenance": overview.provenance(rows),
    }
    return parts | {"nav": _navigation(parts)}


NOTHING = "Nothing has been dissected yet"
SECTIONS = {  # id of a section → its name in the navigation, and the parts of which it has at least one
    "neurons": ("Strongest neurons", ["neurons"]),
    "gallery": ("All neurons", ["gallery"]),
    "layers": ("Layers", ["layers"]),
    "trust": ("Trust", ["trust"]),
    "concepts": ("Concepts", ["by_neuron", "by_prediction", "concept_matrix", "concept_groups"]),
    "similarities": ("Scores", ["similarities"]),
    "predictions": ("Predictions", ["accuracies"]),
    "edits": ("Edit", ["edits"]),
    "causes": ("Causes", ["causes"]),
    "analysed": ("What was analysed", ["summary"]),
}


def _navigation(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and name of the sections that the page has, then of the glossary."""
    has = {key: bool(part) and (key != "gallery" or bool(part["unit"])) for key, part in parts.items()}
    links = [(section, heading) for section, (heading, keys) in SECTIONS.items() if any(has[key] for key in keys)]
    return [*links, ("glossary", "Glossary")]


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script. Making it takes seconds, so each process does it once."""
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(text: str) -> str:
    """The hash by which a content-security policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

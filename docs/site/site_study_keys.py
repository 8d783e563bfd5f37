"""The page of the study file's keys: type and default from the pydantic models, meaning from the studies that ship."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dissectdb import ROOT
from dissectdb.extract.study.study_file import Study

SHIPPED = ("fer2013.toml", "arrays.toml", "demo.toml")  # the first that has a key explains it
TABLES = {  # table of a study → its model
    "": "Study",
    "[dataset]": "Dataset",
    "[network]": "Network",
    "[network.input]": "Input",
    "layers of [network]": "Layer",
    "[clip]": "Clip",
    "[arrays]": "Arrays",
    "[[concept_sets]]": "ConceptSet",
    "[[dissections]]": "Dissection",
    "[[edits]]": "Edit",
    "[[sweeps]]": "Sweep",
    "[protocol]": "Protocol",
    "[effects]": "Effects",
    "[controls]": "Controls",
    "[judge]": "Judge",
}
OWN = {  # where the studies say nothing about a key, or only what is so in that study
    ("[dataset]", "name"): "its name in tables and reports; never its identity",
    ("[dataset]", "images"): "use only so many images of each split, for a trial",
    ("[dataset]", "sources"): "several sources as one dataset, each a table [[dataset.sources]] with these keys",
    ("[arrays]", "path"): "a safetensors file; studies/arrays.toml describes what is in it",
    ("[[concept_sets]]", "name"): "what dissections call it",
    (
        "[[dissections]]",
        "scorer",
    ): "presence, pearson, or one of CLIP-Dissect's soft_wpmi, wpmi, cos, cos_cubed, rank_reorder",
    ("[[dissections]]", "tau"): "the threshold of the rule tau",
    ("[[edits]]", "name"): "what the results call it",
    ("[[edits]]", "factor"): "what the weight rows that the rule picks are multiplied by",
    ("[[edits]]", "sql"): "a query that yields layer, unit and scale, or a file with one; for rule = sql",
    ("[[sweeps]]", "name"): "the names of its edits begin with it",
    ("[[sweeps]]", "taus"): "thresholds of the rule paper",
    ("[[sweeps]]", "factors"): "what the weight rows that a rule picks are multiplied by",
    ("[[sweeps]]", "bias"): "whether biases are scaled too",
    ("[effects]", "layers"): "layers whose neurons are silenced; before a linear head every one is measured exactly",
    ("[effects]", "images"): "in other layers: so many images",
    ("[effects]", "neurons"): "in other layers: so many neurons",
}
OF_LAYERS = {  # the studies show a layer as { … } in the list layers, whose comment is about all of it
    "name": "dotted module path, or a pattern",
    "kind": "only the modules of this kind that the pattern fits",
    "pooling": "default: the pooling of the network",
    "units": "channels, or heads of an attention layer",
    "layout": "channels_last: maps end in channels",
    "call": "which run of a module that runs several times in a pass, from 1; default: the last",
}
COMMENT_COLUMN = 20  # a comment from this column on belongs to the key above or before it


def page() -> str:
    """The page: one table of keys for each table of a study."""
    schema = Study.model_json_schema()
    models = {"Study": schema, **schema["$defs"]}
    lines = [
        "# Study keys\n",
        "Every key of a [study file](../study.md). Type and default are those that are checked; another key or value "
        "is refused with the name of the file and the key. `--set KEY=VALUE` overrides each of them, such as "
        "`--set dissections[0].top_k=50`.\n",
    ]
    for table, model in TABLES.items():
        lines += [f"## {table or 'At the top'}\n", f"{first_line(models[model]['description'])}\n" if table else ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [row(table, key, field, models[model]) for key, field in models[model]["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def first_line(text: str) -> str:
    return text.split("\n", 1)[0].replace("[", "\\[")


def row(table: str, key: str, field: dict[str, Any], model: dict[str, Any]) -> str:
    """The line about a key."""
    default = "required" if key in model.get("required", ()) else shown(field.get("default"))
    text = meaning(table, key).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")
    return f"| `{key}` | {kind(field)} | {default} | {text.replace('_', chr(92) + '_')} |"


def shown(default: Any) -> str:
    """A default as a study would write it; nothing if a key may be left out and then has no value."""
    if default in (None, [], {}) or isinstance(default, dict):
        return ""
    text = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
    return f"`{text}`"


def kind(field: dict[str, Any]) -> str:
    """What a value may be, in words.

    >>> kind({"type": "integer", "minimum": 1, "maximum": 256})
    'whole number, 1 to 256'
    >>> kind({"anyOf": [{"enum": ["sql", "auto"]}, {"type": "null"}]})
    '`sql`, `auto`'
    """
    if "anyOf" in field:
        return " or ".join(kind(each) for each in field["anyOf"] if each.get("type") != "null")
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {kind(field['items'])}"
    if "$ref" in field:
        return "table"
    names = {"integer": "whole number", "number": "number", "boolean": "true or false", "object": "table"}
    name = "path" if field.get("format") == "path" else names.get(field.get("type", ""), "text")
    return ", ".join(filter(None, [name, limits(field)]))


def limits(field: dict[str, Any]) -> str:
    """The range of a number, in words. A limit that only bounds what can be stored is left out."""
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    if high is not None and high >= 1e6:
        high = None
    below = None if below is not None and below >= 2**31 else below
    low = None if low is not None and low <= -1e6 else low
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    words = [("from", low), ("above", above), ("to", high), ("below", below)]
    return ", ".join(f"{word} {value:g}" for word, value in words if value is not None)


def meaning(table: str, key: str) -> str:
    """The comment on a key in the studies that ship; a table of its own is named."""
    if table == "layers of [network]":
        return OF_LAYERS[key]
    if (table, key) in OWN:
        return OWN[table, key]
    for name in SHIPPED:
        found = dict(comments((ROOT / "studies" / name).read_text(encoding="utf-8")))
        if text := found.get((table, key)):
            return text
    nested = [other for other in TABLES if other.strip("[]").split(".")[-1] == key]
    return f"the table {nested[0]}" if nested else ""


def comments(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """The comment on each key of a study, also of keys that stand in comments: ((table, key), comment)."""
    table, key, words = "", "", ""
    for line in text.splitlines():
        heading = re.match(r"(?:# )?(\[+[\w.]+\]+)(?: +# (.*))?$", line)
        entry = re.match(r"(?:# +)?(\w+) = (.*)$", line)
        continued = re.match(rf"[^#]{{{COMMENT_COLUMN},}}# (.*)$|#? {{2,}}[^#=]*# (.*)$", line)
        if heading or entry:
            if words:
                yield (table, key), words
            _, _, words = (entry[2] if entry else "").partition("  # ")
            key = entry[1] if entry else ""
            words = words.strip()
            table = heading[1] if heading else table
        elif continued and key:
            words = f"{words} {(continued[1] or continued[2]).strip()}".strip()
    if words:
        yield (table, key), words

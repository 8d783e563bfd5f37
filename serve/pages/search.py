"""Search by any text: CLIP's embedding of the text against that of each neuron."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.embeddings import IMAGES
from dissectdb.serve.pages.overview import shown

FOUND = 60


def search(asked: Asked) -> Mapping[str, Any]:
    """The neurons whose best images are most like a text, each with how sure that is."""
    summary = shown(asked)
    text = asked.text("text", 300) or ""
    known = asked.records("models")
    if not known:
        raise NotThere("This dissection has no CLIP, so that its neurons cannot be searched by text")
    held, state = asked.embeddings.of(asked.dissection, (summary["dissection_id"], asked.records("search_state")))
    content: dict[str, Any] = {"text": text, "state": state, "models": asked.models, "rows": None, "images": IMAGES}
    if held is None or not text:
        return content
    concept = asked.records("concept_embedding", concept=text)
    if concept:
        embedding, source = concept[0]["embedding"], "concept"
    elif asked.models.state != "ready":
        return content | {"needs_model": True}
    elif asked.models.fingerprints[1] != known[0]["clip_fingerprint"]:
        return content | {"other_clip": known[0]["clip"]}
    else:
        embedding, source = asked.models.embed(text, known[0]["templates"]), "text"
    if len(embedding) != held.means.shape[1]:
        raise NotThere("The text's embedding and those of the images differ in length; extract again")
    rows = held.nearest(embedding, FOUND)
    wanted = json.dumps([{"layer": row["layer"], "unit": row["unit"]} for row in rows])
    labels = {(row["layer"], row["unit"]): row for row in asked.records("labels_of", wanted=wanted)}
    for row in rows:
        label = labels.get((row["layer"], row["unit"]))
        row["concept"] = label["concept"] if label else None
        row["interpretable"] = bool(label and label["interpretable"])
    return content | {"rows": rows, "source": source}

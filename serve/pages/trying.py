"""Try an image: what the network takes it for, and which neurons it activates most. Nothing is stored."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.pages.overview import shown

LARGEST = 32 << 20  # bytes of a file
TOP_NEURONS = 8  # of a layer
TOP_CLASSES = 5


def page(asked: Asked) -> Mapping[str, Any]:
    """The page on which a file is dropped."""
    shown(asked)
    return {"models": asked.models, "largest": LARGEST >> 20, "problem": _problem(asked)}


async def upload(request: Request, answer: Callable[[bytes], Response]) -> Response:
    """The answer to a file that was sent as it is. It is held in memory only."""
    file = bytearray()
    async for part in request.stream():
        file += part
        if len(file) > LARGEST:
            return PlainTextResponse(f"The file is larger than {LARGEST >> 20} MB.", 413)
    return await run_in_threadpool(answer, bytes(file))


def seen(file: bytes) -> Callable[[Asked], Mapping[str, Any]]:
    """A page on what the network sees in the bytes of a picture."""

    def show(asked: Asked) -> Mapping[str, Any]:
        if problem := _problem(asked):
            raise NotThere(problem)
        try:
            found = asked.models.look(file)
        except ValueError as error:
            raise NotThere(str(error)) from error
        by_layer = {
            row["layer"]: found.activations.get((row["module"], row["pooling"], row["call"]))
            for row in asked.records("recorded_layers")
        }
        return {
            "picture": base64.b64encode(found.picture).decode(),
            "classes": found.classes[:TOP_CLASSES],
            "layers": [_of_layer(asked, row["layer"], by_layer.get(row["layer"])) for row in asked.records("layers")],
        }

    return show


def _problem(asked: Asked) -> str | None:
    """Why no image can be tried; None if one can."""
    if asked.models.state != "ready":
        return asked.models.note
    own, known = asked.models.fingerprints[0], asked.records("models")
    if own is None:
        return "The study has no network (its activations come from arrays), so that no image can be tried"
    if known and known[0]["network_fingerprint"] != own:
        return f"The study's network is not {known[0]['network']}, which these pages show; name its study with --study"
    return None


def _of_layer(asked: Asked, layer: str, values: list[float] | None) -> dict[str, Any]:
    """The neurons of a layer that the picture activates most, in standard deviations above their own mean.

    values: of its units; None if the study does not read the layer as the warehouse has it recorded.
    """
    if values is None:
        return {"layer": layer, "rows": None}
    rows = [
        row | {"value": values[row["unit"]], "z": (values[row["unit"]] - row["mean"]) / row["sd"]}
        for row in asked.records("layer_units", module=layer)
        if row["sd"] and row["unit"] < len(values)
    ]
    return {"layer": layer, "rows": sorted(rows, key=lambda row: -row["z"])[:TOP_NEURONS]}

"""The pages and their addresses, as an application of Starlette.

app = create_app(store, token="…", port=8000)

A page is a function of serve/pages: it takes a Request of ours and returns the variables of its template. It runs in a
thread, so that a slow answer holds up no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import duckdb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dissectdb.serve import assets
from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.embeddings import Embeddings
from dissectdb.serve.guarding import Guarded
from dissectdb.serve.models import NONE, Models
from dissectdb.serve.pages import compare, concepts, edits, images, neurons, overview, search, sql, trying
from dissectdb.serve.shared_file import Held
from dissectdb.serve.store import Store
from dissectdb.warehouse.errors import WarehouseError

log = logging.getLogger("dissectdb")
Page = Callable[[Asked], Response | Mapping[str, Any]]

PAGES: dict[str, tuple[str, Page]] = {  # path → template, function
    "/": ("overview.html.jinja", overview.overview),
    "/layers": ("layers.html.jinja", overview.layers),
    "/neurons": ("neurons.html.jinja", neurons.list_of_neurons),
    "/neuron": ("neuron.html.jinja", neurons.neuron),
    "/image": ("image.html.jinja", images.image),
    "/concepts": ("concepts.html.jinja", concepts.list_of_concepts),
    "/concept": ("concept.html.jinja", concepts.concept),
    "/edits": ("edits.html.jinja", edits.list_of_edits),
    "/edit": ("edit.html.jinja", edits.edit),
    "/compare": ("compare.html.jinja", compare.compare),
    "/search": ("search.html.jinja", search.search),
    "/sql": ("sql.html.jinja", sql.sql),
    "/try": ("try.html.jinja", trying.page),
}
FILES: dict[str, Page] = {
    "/picture": images.picture,
    "/strip": images.strip,
    "/sql.csv": sql.as_csv,
    "/sql.parquet": sql.as_parquet,
    "/names.json": sql.names,
}


def create_app(store: Store, *, token: str, port: int, models: Models = NONE) -> ASGIApp:
    """The application. port: where it is served on 127.0.0.1. models: what text and pictures are asked of."""

    embeddings = Embeddings(store)

    @asynccontextmanager
    async def lifespan(app: Starlette):  # type: ignore[no-untyped-def]
        yield
        store.close()

    def route(path: str, template: str | None, page: Page) -> Route:
        def answer(request: Request) -> Response:
            return _answered(Asked(request, store, models, embeddings), template, page)

        return Route(path, answer, methods=["GET"])

    async def upload(request: Request) -> Response:
        asked = Asked(request, store, models, embeddings)
        return await trying.upload(request, lambda file: _answered(asked, "tried.html.jinja", trying.seen(file)))

    routes = [route(path, template, page) for path, (template, page) in PAGES.items()]
    routes += [route(path, None, page) for path, page in FILES.items()]
    routes += [Route("/try", upload, methods=["POST"]), Route("/static/{name}", assets.serve)]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _no_such_page})
    return Guarded(app, token, port)


def _answered(asked: Asked, template: str | None, page: Page) -> Response:
    """The page, or a page that says why there is none."""
    try:
        asked.check()
        content = page(asked)
        if isinstance(content, Response):
            return content
        return HTMLResponse(assets.render(template or "", asked, content))
    except NotThere as error:
        return _said(asked, str(error), 404)
    except Held as error:
        said = f"A job is writing, and this page has not been read before: {error}. It is asked again by itself."
        return _said(asked, said, 503, again=3)
    except (WarehouseError, duckdb.CatalogException, duckdb.BinderException) as error:
        first = str(error).splitlines()[0]
        said = f"The warehouse could not be read: {first}. If a view or column is missing: dissectdb build"
        return _said(asked, said, 500)
    except duckdb.OutOfMemoryException:
        return _said(asked, "The answer needs more memory than the explorer may use; start it with --memory SIZE", 500)


def _said(asked: Asked, text: str, status: int, again: int | None = None) -> Response:
    headers = {"Retry-After": str(again)} if again else None
    html = assets.render("said.html.jinja", asked, {"text": text, "again": again})
    return HTMLResponse(html, status, headers)


async def _no_such_page(request: Request, error: Exception) -> Response:
    return HTMLResponse(assets.PLAIN.format(text="There is no page at this address."), 404)

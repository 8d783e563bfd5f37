"""A warehouse to read from Python: its views are methods that return polars frames, and its neurons draw themselves.

w = dissectdb.open("warehouse.duckdb")
w.neuron_concepts(layer="conv4b", interpretable=True)     # a polars frame; dir(w) lists the views
w.sql("select concept, count(*) as neurons from neuron_concepts where q < $q group by concept", {"q": 0.01})
w.neuron("conv4b", 22)                                     # a card: label, scores, images
w.layer_chart()                                            # a chart of the report

Nothing is written. The file is open only while something is read, so that another process, or this one, can go on to
write into it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissectdb.did_you_mean import choices
from dissectdb.warehouse_file import AnyWarehouse, as_file

if TYPE_CHECKING:
    import polars as pl

    from dissectdb import Study
    from dissectdb.given import Given
    from dissectdb.reports.card import NeuronCard
    from dissectdb.warehouse.view_files import View

CHARTS = (
    "layer_chart",
    "accuracy_chart",
    "concept_chart",
    "concept_matrix_chart",
    "confusion_chart",
    "edit_chart",
    "sweep_chart",
)
_RETURNS = "Returns a polars frame in the order of its grain. Keywords keep the rows with that value in a column."


class OpenWarehouse:
    """A warehouse that is read. Each public view is a method; so is each chart of the report.

    path: its file. dissection: the one that the views show; None: the newest. study, given: what dissect() made it of,
    for pipeline.modify; None after open().

    >>> w = dissectdb.open("warehouse.duckdb")
    >>> w.layer_summary().columns[:3]
    ['network', 'layer', 'neurons']
    >>> w.neuron_concepts(layer="lin2", unit=0)["concept"].len()
    1
    """

    def __init__(
        self,
        warehouse: AnyWarehouse,
        dissection: int | None = None,
        *,
        study: Study | None = None,
        given: Given | None = None,
    ) -> None:
        file = as_file(warehouse)
        self._file = replace(file, path=file.path.absolute())  # a notebook may change its folder
        self.dissection, self.study, self.given = dissection, study, given
        self._file.to_read(dissection).close()  # raises WarehouseError if there is nothing to read

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None, /) -> pl.DataFrame:
        """The rows of a trusted query as a polars frame. parameters: values for $name. For others there is sql()."""
        with self._file.to_read(self.dissection) as opened:
            return opened.rows(query, parameters)

    def sql(
        self, query: str, parameters: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> pl.DataFrame:
        """The rows of a query that only reads, as a polars frame; any other statement is refused, as by `query`.

        parameters: values for $name in the query. timeout: in seconds. Raises QueryRefused, a ValueError.

        >>> w = dissectdb.open("warehouse.duckdb")
        >>> w.sql("select count(*) as neurons from neuron_concepts where layer = $layer", {"layer": "lin2"}).columns
        ['neurons']
        """
        with self._file.to_read(self.dissection) as opened:
            return opened.ask(query, timeout, parameters)

    def neuron(self, layer: str, unit: int) -> NeuronCard:
        """A card of one neuron: label, how sure it is, scores of the best concepts, images. Raises LookupError.

        >>> w = dissectdb.open("warehouse.duckdb")
        >>> w.neuron("lin2", 0).label["unit"]
        0
        """
        from dissectdb.reports.card import card_of

        return card_of(self, layer, unit)

    def views(self) -> pl.DataFrame:
        """The views that are methods, each with what one row of it is.

        >>> dissectdb.open("warehouse.duckdb").views().columns
        ['view', 'one row is']
        """
        import polars as pl

        views = sorted((view.name, view.title) for view in _public_views().values())
        return pl.DataFrame(views, schema=["view", "one row is"], orient="row")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A public view or a chart, as a method."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name in CHARTS:
            return self._chart(name)
        if (view := _public_views().get(name)) is not None:
            return self._method(view)
        raise AttributeError(f"a warehouse has no view {name!r}; {choices(name, sorted(_public_views()))}")

    def __dir__(self) -> list[str]:
        """The methods, with a method for each public view and each chart, which editors and notebooks complete."""
        return sorted({*super().__dir__(), *_public_views(), *CHARTS})

    def __repr__(self) -> str:
        shown = "the newest dissection" if self.dissection is None else f"dissection {self.dissection}"
        return f"<warehouse {self.path}, {shown}; its views are methods, see views()>"

    def _repr_html_(self) -> str:
        from dissectdb.reports.card import summary_of

        return summary_of(self, self.path.name, len(_public_views()))

    def _chart(self, name: str) -> Callable[[], Any]:
        from dissectdb import reports

        chart = getattr(reports, name)

        def draw() -> Any:
            return chart(self)

        draw.__name__, draw.__doc__ = name, chart.__doc__
        return draw

    def _method(self, view: View) -> Callable[..., pl.DataFrame]:
        """A view as a function with its header as docstring."""

        def read(**equal: Any) -> pl.DataFrame:
            with self._file.to_read(self.dissection) as opened:
                columns = opened.columns().get(view.name, [])
                condition = _condition(view.name, columns, equal)
                values = {name: value for name, value in equal.items() if value is not None}
                order = ", ".join(view.grain)
                return opened.rows(f"select * from {view.name}{condition} order by {order}", values)

        read.__name__, read.__qualname__ = view.name, f"OpenWarehouse.{view.name}"
        read.__doc__ = f"{_header(view)}\n\n{_RETURNS}"
        return read


def open(warehouse: AnyWarehouse, dissection: int | None = None) -> OpenWarehouse:
    """A warehouse to read, by its path. dissection: the one that its views show; default: the newest.

    Raises WarehouseError if there is none.

    >>> w = dissectdb.open("warehouse.duckdb")
    >>> w.neuron_concepts(layer="lin2").columns[1:4]
    ['layer', 'unit', 'concept']
    """
    return OpenWarehouse(warehouse, dissection)


@functools.cache
def _public_views() -> Mapping[str, View]:
    from dissectdb.warehouse.view_files import load_views

    return {view.name: view for view in load_views() if view.public}


def _header(view: View) -> str:
    """The comment at the beginning of a view's file, without its settings."""
    lines = [line.removeprefix("--").strip() for line in view.sql.split("\n\n", 1)[0].splitlines()]
    return "\n".join(line for line in lines if not line.startswith(("public", "materialized:")))


def _condition(view: str, columns: Collection[str], equal: Mapping[str, object]) -> str:
    """The WHERE of a view's method; its values are bound, and its names are the view's own. Raises TypeError."""
    for name in equal:
        if name not in columns:
            raise TypeError(f"{view} has no column {name!r}; {choices(name, columns)}")
    parts = [f'"{name}" is null' if value is None else f'"{name}" = ${name}' for name, value in equal.items()]
    return f" where {' and '.join(parts)}" if parts else ""

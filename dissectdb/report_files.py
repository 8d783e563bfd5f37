"""Write the HTML pages of a warehouse. pipeline.report and pipeline.compare are these functions."""

from __future__ import annotations

from pathlib import Path

from dissectdb.warehouse_file import AnyWarehouse, as_file


def report(
    warehouse: AnyWarehouse,
    output: Path | str,
    *,
    dissection: int | None = None,
    thumbnail_bytes: int = 8_000_000,
    every_neuron: bool = False,
    charts: Path | str | None = None,
) -> list[str]:
    """Write one offline HTML page of what the warehouse shows; returns the names of the charts that were saved.

    dissection: Default: the newest. thumbnail_bytes: the most that thumbnails take in a page. every_neuron: also write
    one page per layer, into a folder beside output. charts: a folder for every chart as SVG, PNG and JSON.
    Raises WarehouseError, OutputError.
    """
    from dissectdb.reports import export, page

    output = Path(output)
    with as_file(warehouse).to_read(dissection) as opened:
        rows = page.ask(opened.rows)
        links = page.write_layers(opened.rows, rows, output, budget=thumbnail_bytes) if every_neuron else ()
    page.write(rows, output, budget=thumbnail_bytes, layer_pages=links)
    return export.save_charts(rows, Path(charts)) if charts else []


def compare(
    warehouse: AnyWarehouse,
    output: Path | str,
    first: int | str,
    second: int | str,
    *,
    dissection: int | None = None,
) -> None:
    """Write one offline HTML page that compares two dissections, each named by its id or by what sets it apart.

    Raises WarehouseError, OutputError.
    """
    from dissectdb.reports import compare as comparison

    with as_file(warehouse).to_read(dissection) as opened:
        rows = comparison.ask(opened.rows, first, second)
    comparison.write(rows, Path(output))

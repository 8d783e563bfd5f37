"""The same tables in DuckDB and in Spark, with every view built in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from dissectdb.warehouse import spark as on_spark
from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.view_files import engine_functions
from tests.sql.test_questions import QUESTIONS, VALUES, warehouses  # noqa: F401 - a fixture
from tests.support.rows import all_views, dissection_row

TABLES = re.findall(r"create table if not exists (\w+)", (SQL / "tables.sql").read_text(encoding="utf-8"))

# Tables this small are done before code is compiled for them.
HASTY = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.level=off",
    "spark.default.parallelism": "1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


HARDER = """
    -- Ties, and zeros of both signs: -0.0 is equal to 0.0.
    update activations set value = round(value, 1) where neuron_id in (1, 6);
    update activations set value = -value where value = 0 and image_id % 2 = 0;
    -- A layer of dead neurons, and one whose neuron is only negative.
    insert into layers select 9, 1, 'dead', 'avg', 9, 'dead', null;
    insert into layers select 10, 1, 'below', 'avg', 10, 'below', null;
    insert into neurons values (21, 9, 0, null, null, null), (22, 9, 1, null, null, null), (31, 10, 0, 1, 1, 1);
    insert into activations select 21, image_id, 0 from activations where neuron_id = 1;
    insert into activations select 22, image_id, -1.5 from activations where neuron_id = 1;
    insert into activations select 31, image_id, -value - 1 from activations where neuron_id = 2;
    insert into extractions
        select * exclude (deeper) replace (100 + split_id * 10 + deeper as extraction_id, deeper as layer_id)
        from extractions cross join (values (9), (10)) as more(deeper)
        where target = 'activations' and layer_id = 1;
    insert into extraction_blocks
        select extraction_id, 0, if(split_id = 1, 8, 6), 0.1, started_at from extractions where extraction_id > 100;
    -- Every neuron summed up again, the first split in two blocks.
    delete from block_sums; delete from block_tops; delete from block_values;
    insert into block_tops select * from activations;
    insert into block_sums
        select split_id, neuron_id, if(image_id in (6, 7, 8), 1, 0) as block, count(*), sum(value),
            sum(value * value), min(value), max(value), count(distinct value)
        from block_tops inner join images using (image_id) group by split_id, neuron_id, block;
    insert into block_values
        select distinct on (split_id, neuron_id, image_id in (6, 7, 8), value) split_id, neuron_id, value
        from block_tops inner join images using (image_id);
    -- Images without a class, and losses that are not known.
    update images set class = null where image_id in (3, 13);
    update predictions set loss = null where image_id in (3, 13);
    update edit_predictions set loss = null where image_id in (3, 13);
    -- A concept like another, one that is equally near to all images, one far from all, and one alone in its set.
    insert into concepts values
        (50, 1, 50, 'Grin', 'faces'), (51, 1, 51, 'Nought', null), (52, 1, 52, 'Anti', null), (53, 3, 0, 'Alone', null);
    insert into concept_embeddings select 1, 50, embedding from concept_embeddings where concept_id = 4;
    insert into concept_embeddings values (1, 51, [0, 0, 0, 0]), (1, 52, [-0.6, -0.8, 0, 0]), (1, 53, [0.6, 0, 0.8, 0]);
    insert into concept_sets select 3, 'one', templates, 'one' from concept_sets where concept_set_id = 1;
    -- Edits by every rule.
    insert into edits
        select * exclude (i, new_rule, names)
            replace (20 + i as edit_id, new_rule || i as name, new_rule as rule, names as concepts)
        from edits
        cross join (
            values (1, 'weight_l1', null), (2, 'calibrated', null), (3, 'proportional', null),
                (4, 'ablate', null), (5, 'ablate', ['Smile', 'Grin'])
        ) as more(i, new_rule, names)
        where edit_id = 1;
    insert into edit_layers select edit_id, 1 from edits where edit_id > 20;
"""

MORE_DISSECTIONS = [
    dissection_row(20, include_dead=True, prior_weight=0.5, rule="q"),
    dissection_row(21, concept_set_id=3),
    dissection_row(22, concept_set_id=3, scorer="pearson"),
    dissection_row(27, concept_set_id=3, scorer="presence"),
    dissection_row(23, scorer="rank_reorder", rank_fraction=1.0, rank_scale=0.0),
    dissection_row(24, scorer="cos"),
    dissection_row(25, scorer="cos_cubed", top_k=2),
    dissection_row(26, top_k=2, images_neurons=1, tau=-1000.0),
]


@dataclass(frozen=True)
class Both:
    """The rows of every view on each engine, by the view's name, and the folder of the tables."""

    folder: Path
    duckdb: dict[str, pl.DataFrame]
    spark: dict[str, pl.DataFrame]


@contextmanager
def tables_of(file: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with the base tables of a warehouse, or empty ones."""
    with duckdb.connect() as connection:
        connection.execute((SQL / "tables.sql").read_text(encoding="utf-8"))
        if file is not None:
            connection.execute(f"attach '{file}' as given (read_only)")
            for table in TABLES:
                connection.execute(f"insert into {table} by name select * from given.{table}")
        yield connection


def both(spark: Any, connection: duckdb.DuckDBPyConnection, folder: Path, shown: int | None) -> Both:
    for table in TABLES:
        connection.execute(f"copy {table} to '{folder / table}.parquet'")
    connection.execute(engine_functions())
    if shown is not None:
        connection.execute(f"set variable dissection = {shown}")
    for view in all_views():
        connection.execute(f"create table {view.name} as {view.sql}")
    built = {step.view: step.rows for step in on_spark.build(spark, folder, folder / "built")}
    assert list(built) == [view.name for view in all_views() if view.materialized]
    if shown is not None:
        spark.sql(f"set variable dissection = {shown}")
    names = [view.name for view in all_views()]
    # Tiny queries keep one core busy with planning each, so two at a time.
    with ThreadPoolExecutor(2) as pool:
        frames = pool.map(lambda name: pl.from_arrow(spark.table(name).toArrow()), names)
        views = Both(
            folder,
            duckdb={name: connection.sql(f"select * from {name}").pl() for name in names},
            spark=dict(zip(names, frames, strict=True)),
        )
    assert built == {name: views.duckdb[name].height for name in built}
    return views

"""Every view file: its header, its columns, and when it is built anew."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot.dialects import DuckDB

from dissectdb.warehouse import Warehouse, WarehouseError, views
from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.view_files import View, ViewError, engine_functions, load_views, statement
from dissectdb.warehouse.views import build, install
from tests.support.rows import all_views, dissection_row

each_view = pytest.mark.parametrize("view", all_views(), ids=lambda view: view.name)

# The interface, design.md; a view may have more.
PUBLIC = {
    "neuron_concepts": "network layer unit concept similarity runner_up margin z p q interpretable judged_pearson "
    "judged_ap dead",
    "all_labels": "network layer unit concept similarity runner_up margin z p q interpretable dead scorer concept_set "
    "clip dataset probing_split shown",
    "similarity_rankings": "network layer unit rank concept similarity",
    "top_images": "network layer unit rank image_id path value true_class predicted_class",
    "image_regions": "network layer unit rank image_id grid_rows grid_columns top_row top_column seen_row seen_column "
    "picture_row picture_column part_top part_bottom part_left part_right threshold share_above low high cells",
    "label_quality": "network layer unit concept reference judged_on images share pearson pearson_low pearson_high "
    "ap ap_low ap_high ap_corrected f1 iou auc auc_low auc_high",
    "layer_quality": "network layer reference judged_on labels pearson ap_corrected f1 iou auc",
    "neuron_accuracies": "network layer unit concept accuracy lift",
    "concept_counts_by_neuron": "network layer concept neurons share",
    "concept_counts_by_prediction": "network layer concept class images share lift low high",
    "layer_summary": "network layer neurons num_interpretable num_uninterpretable overall_accuracy "
    "interpretable_accuracy uninterpretable_accuracy proportion_interpretable num_calibrated num_dead num_sparse "
    "num_tied",
    "rival_scores": "network layer unit method control label reference pearson ap ap_corrected f1 iou auc z p q "
    "sharing output names_output output_similarity",
    "rival_summary": "network layer method control reference neurons measured labels most_sharing share_believed "
    "pearson pearson_low pearson_high ap ap_corrected f1 iou auc outputs names_output output_similarity",
    "rival_differences": "network layer reference measure method control other_method other_control neurons difference "
    "low high beyond",
    "named_images": "dataset split image_id position path source true_class defect",
    "weight_scales": "edit_id layer unit scale",
    "network_accuracies": "network split images correct accuracy loss",
    "edit_results": "edit_id network layer rule tau factor split images correct_before correct_after "
    "accuracy_before accuracy_after loss_before loss_after gained lost p_mcnemar p_corrected low high",
}
# Where NULL is a row of its own: all classes together; a pair of networks, or an edit.
TOTALS = {
    ("neuron_effects", "class"),
    *(("paired_outcomes", column) for column in ("edit_id", "network_id", "other_network_id")),
}
WITHOUT_DISSECTION = {"named_images", "weight_scales", "network_accuracies"}


# ---------------------------------------------------------------- files


def write_views(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(f"-- A row.\n-- grain: a\n{text}\n")
    return folder


@each_view
def test_every_view_has_one_row_per_grain(view, scored):
    rows = scored.rows(f"select * from {view.name}")
    assert len(rows) > 0, "tests/support/rows.py: scored leaves this view empty"
    assert rows.select(view.grain).n_unique() == len(rows)
    whole = [column for column in view.grain if (view.name, column) not in TOTALS]
    assert rows.select(whole).null_count().sum_horizontal().item() == 0


@each_view
def test_every_view_says_in_a_sentence_what_a_row_is(view):
    assert view.title.endswith((".", "?"))
    assert view.title[0].isupper()
    assert 20 < len(view.title) < 160


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_view_has_the_columns_of_its_interface_in_order(name, tiny):
    columns = tiny.rows(f"select * from {name} limit 0").columns
    promised = PUBLIC[name].split()
    assert [column for column in columns if column in promised] == promised
    assert name in WITHOUT_DISSECTION or columns[-1] == "dissection_id"


def test_the_views_of_the_interface_are_marked_public_and_public_views_carry_names(tiny):
    public = {view.name: view for view in all_views() if view.public}
    assert PUBLIC.keys() <= public.keys()
    for view in public.values():
        columns = tiny.rows(f"select * from {view.name} limit 0").columns
        assert not all(column.endswith("_id") for column in columns)


def test_a_view_stands_after_all_that_it_reads():
    names = [view.name for view in all_views()]
    for place, view in enumerate(all_views()):
        assert view.reads & set(names) <= set(names[:place])


def test_every_table_that_a_view_reads_is_a_table_or_a_view():
    tables = set(re.findall(r"create table if not exists (\w+)", (SQL / "tables.sql").read_text()))
    known = tables | {view.name for view in all_views()}
    assert {view.name: view.reads - known for view in all_views() if view.reads - known} == {}
    assert not tables & {view.name for view in all_views()}
    names = [path.stem for path in (SQL / "views").rglob("*.sql")]
    assert len(names) == len(set(names))


def test_views_in_a_circle_are_named(tmp_path):
    write_views(tmp_path, first="select a from second", second="select a from first")
    with pytest.raises(ViewError, match=r"in a circle: (first → second → first|second → first → second)"):
        load_views(tmp_path)


@pytest.mark.parametrize("text", ["select 'a", "select 1; select 2", "select from where", "", "(((", "drop table a"])
def test_a_file_that_is_not_one_select_is_refused_by_name(tmp_path, text):
    write_views(tmp_path, broken=text)
    with pytest.raises(ViewError, match=r"broken\.sql: not one SELECT"):
        load_views(tmp_path)


@pytest.mark.parametrize("text", ["select 1", "-- A row.\nselect 1", "-- A row. \n\n-- materialized: table\nselect 1"])
def test_a_file_without_its_header_is_refused_by_name(tmp_path, text):
    (tmp_path / "bare.sql").write_text(text)
    with pytest.raises(ViewError, match=r"bare\.sql: a view starts with a line that says"):
        load_views(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("evidence", "meaning"):
        (tmp_path / folder).mkdir()
        write_views(tmp_path / folder, same="select 1 as a")
    with pytest.raises(ViewError, match="same"):
        load_views(tmp_path)


def test_what_is_stored_does_not_depend_on_which_dissection_is_shown():
    """The session's choice is no input of a build: a stored view may not read it, directly or not."""
    depends = {"shown_dissection"}
    for view in all_views():
        if view.reads & depends:
            depends.add(view.name)
            assert not view.materialized, view.name


# ---------------------------------------------------------------- what is built anew

MATERIALIZED = [view.name for view in all_views() if view.materialized]


def built(warehouse: Warehouse, **options: Any) -> list[str]:
    return [step.view for step in warehouse.build(**options)]


def dependents(*names: str) -> list[str]:
    """The materialised views that read one of these, at whatever distance, in the order of building."""
    stale = set(names)
    for view in all_views():
        if view.reads & stale:
            stale.add(view.name)
    return [name for name in MATERIALIZED if name in stale]


def test_nothing_is_built_twice_not_even_by_another_process(tiny):
    assert built(tiny) == []
    tiny.close()
    with Warehouse(tiny.path) as again:
        assert built(again) == []
        assert again.rows("select * from view_builds").height == len(MATERIALIZED)


def test_a_build_says_how_many_rows_each_view_has(scored):
    steps = list(scored.build(full_refresh=True))
    assert [step.view for step in steps] == MATERIALIZED
    for step in steps:
        assert step.rows == scored.rows(f"select * from {step.view}").height > 0
        assert step.seconds > 0


CHANGES = {
    "dissections": [dissection_row(3, concept_set_id=2, tau=1.0)],
    "concept_classes": [{"concept_id": 1, "class": "happy"}],
    "activations": [{"neuron_id": n, "image_id": 1, "value": 9.0} for n in range(1, 9)],
    "block_tops": [{"neuron_id": n, "image_id": 1, "value": 9.0} for n in range(1, 9)],
    "predictions": [],
    "edits": [],
    "classes": [],
}


@pytest.mark.parametrize("table", CHANGES)
def test_a_changed_table_makes_stale_what_reads_it_and_nothing_else(tiny, table):
    tiny.write({table: CHANGES[table]})
    assert built(tiny, dry_run=True) == dependents(table)
    done = built(tiny)
    assert set(done) <= set(dependents(table))
    assert set(done) >= {view.name for view in all_views() if view.materialized and table in view.reads}
    assert built(tiny) == []


def test_new_activations_are_carried_to_the_last_view(tiny):
    before = tiny.rows("select * from soft_wpmi").height
    rows = [{"neuron_id": 1, "image_id": i, "value": 9.0} for i in (1, 2, 3)]
    tiny.write({"activations": rows, "block_tops": rows, "block_sums": []})
    for table in ("activations", "block_tops"):
        tiny.connection.execute(f"delete from {table} where neuron_id = 1 and image_id <= 3 and value < 9")
    tiny.connection.execute("""
        update block_sums set
            highest = 9, lowest = of_block.lowest, total = of_block.total, total_squares = of_block.total_squares
        from (
            select min(value) as lowest, sum(value) as total, sum(value * value) as total_squares
            from activations where neuron_id = 1 and image_id <= 5
        ) as of_block
        where neuron_id = 1 and split_id = 1 and block = 0
    """)
    assert built(tiny) == dependents("activations", "block_tops", "block_sums")
    assert tiny.rows("select value from top_images where layer = 'conv' and unit = 0")["value"].to_list() == [9.0] * 3
    assert tiny.rows("select * from soft_wpmi").height <= before


def test_an_intermediate_view_of_equal_content_stops_the_cascade(tiny):
    """The top images of blocks count as written, and those of the split come out the same."""
    tiny.write({"block_tops": []})
    direct = {view.name for view in all_views() if view.materialized and "block_tops" in view.reads}
    through = set(built(tiny, dry_run=True)) - direct
    done = set(built(tiny))
    assert direct <= done
    assert not done & (through - direct)
    assert {"soft_wpmi", "neuron_labels", "judged_neurons"} <= through


def test_a_new_dissection_leaves_the_views_over_activations_alone(tiny):
    tiny.write({"dissections": [dissection_row(3, tau=2.0)]})
    assert not {"top_activations", "neuron_statistics"} & set(built(tiny))
    assert tiny.rows("select * from neuron_concepts where dissection_id = 3").height == 8


def test_a_selection_builds_what_it_reads_and_leaves_the_rest_stale(tiny):
    tiny.write({"block_tops": [], "block_sums": [], "dissections": [dissection_row(3)]})
    assert built(tiny, select=["neuron_statistics"]) == ["top_activations", "neuron_statistics"]
    done = built(tiny, select=["soft_wpmi"])
    assert done[0] == "image_concept_similarities"
    assert done[-1] == "soft_wpmi"
    left = {"neuron_labels", "judged_neurons", "image_concepts"}
    assert not left & set(done)
    assert left <= set(built(tiny))


def test_a_view_that_is_not_stored_can_be_selected_for_what_it_reads(tiny):
    assert built(tiny, select=["neuron_accuracies"], full_refresh=True)[-1] == "judged_neurons"
    with pytest.raises(ViewError, match=r"no view named nonsense; there is activation_histograms, .* and \d+ more$"):
        built(tiny, select=["nonsense"])


def test_a_dry_run_changes_nothing(tiny):
    tiny.write({"activations": []})
    before = tiny.rows("select * from view_builds order by view").rows()
    assert built(tiny, dry_run=True, full_refresh=True) == MATERIALIZED
    assert built(tiny, dry_run=True) == dependents("activations")
    assert tiny.rows("select * from view_builds order by view").rows() == before


def changed(*changes: tuple[str, str, str]) -> list[View]:
    """All views, some with one text replaced by another."""
    texts = {view.name: view for view in all_views()}
    for name, old, new in changes:
        assert old in texts[name].sql
        texts[name] = replace(texts[name], sql=texts[name].sql.replace(old, new))
    return list(texts.values())


def test_a_view_that_fails_leaves_the_old_table_and_what_was_built_before_it(tiny):
    old = tiny.rows("select * from neuron_labels order by all").rows()
    broken = changed(("neuron_labels", "dissected_neurons.dead,\n", "error('no') as dead,\n"))
    with pytest.raises(ViewError, match=r"view neuron_labels could not be built: .*no"):
        list(build(tiny.use, broken, full_refresh=True))
    assert tiny.rows("select * from neuron_labels order by all").rows() == old
    # Sums may differ in their last bits from build to build, so what comes after may be built; nothing before.
    assert set(built(tiny)) <= set(dependents("neuron_labels"))


def test_a_changed_text_starts_empty_and_is_built_with_what_reads_it(tiny):
    new = changed(("neuron_labels", "> dissections.tau", "< dissections.tau"))
    install(tiny.connection, new)
    assert tiny.rows("select * from neuron_labels").height == 0
    assert tiny.rows("select * from soft_wpmi").height > 0
    done = [step.view for step in build(tiny.use, new)]
    assert done == dependents("neuron_labels")
    assert tiny.rows("select * from neuron_labels where interpretable and similarity >= 0").height == 0


def test_a_changed_comment_leaves_tables_as_they_are_and_is_installed(tiny):
    new = [
        replace(
            view,
            sql="-- Another title.\n" + view.sql.replace("\nfrom ", "\n-- A reason.\n  from "),
            title="Another title.",
        )
        for view in all_views()
    ]
    before = tiny.rows("select * from view_builds order by view").rows()
    install(tiny.connection, new)
    assert [step.view for step in build(tiny.use, new, dry_run=True)] == []
    assert tiny.rows("select * from view_builds order by view").rows() == before
    assert tiny.rows("select * from neuron_labels").height > 0
    comments = "select comment from duckdb_tables() where table_name = 'neuron_labels' union all "
    comments += "select comment from duckdb_views() where view_name = 'neuron_concepts'"
    assert tiny.rows(comments)["comment"].to_list() == ["Another title."] * 2


def test_a_changed_literal_makes_a_view_stale(tiny):
    new = changed(("top_activations", "<= 256", "<= 255"))
    assert next(step.view for step in build(tiny.use, new, dry_run=True)) == "top_activations"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-- A row.\nselect  'a',\n  b /* why */ from t  -- end", True),
        ("select 'a', b from t where true", False),
        ("select 'A', b from t", False),
        ("select ' a', b from t", False),
        ("select 'a -- no comment', b from t", False),
        ("select 'a/* no comment */', b from t", False),
        ("select a, b from t", False),
        ('select "a", b from t', False),
        ("select 'a' , c from t", False),
    ],
)
def test_a_statement_is_compared_without_comments_and_layout(text, same):
    assert (statement(text) == statement("select 'a', b from t")) is same
    assert statement("select 'x --y' -- z") == "select 'x --y'"


@pytest.mark.parametrize("text", [engine_functions(), *(view.sql for view in all_views())])
def test_a_statement_has_the_tokens_that_another_parser_finds(text):
    """Those of older versions, too: other ones, and every warehouse would compute its views again."""
    assert statement(text) == " ".join(text[token.start : token.end + 1] for token in DuckDB().tokenize(text))


@each_view
def test_a_view_reads_what_another_parser_finds(view):
    tree = sqlglot.parse_one(view.sql, dialect="duckdb")
    steps = {step.alias for step in tree.find_all(sqlglot.exp.CTE)}
    assert view.reads == {table.name for table in tree.find_all(sqlglot.exp.Table)} - steps


def test_a_changed_text_of_a_view_in_between_makes_stale_what_is_stored_behind_it(tiny):
    new = changed(("image_concept_probabilities", "sum(weight)", "2 * sum(weight)"))
    install(tiny.connection, new)
    done = [step.view for step in build(tiny.use, new)]
    assert done[0] in ("null_moments", "pearson", "soft_wpmi")
    assert {"null_moments", "pearson", "soft_wpmi"} <= set(done)


def test_a_view_that_is_no_more_is_dropped_and_one_may_become_a_table_or_a_view(tiny):
    stored = "-- materialized: table\n"
    kept = [
        replace(view, sql=stored + view.sql.replace(stored, ""), materialized=True)
        if view.name == "named_neurons"
        else replace(view, sql=re.sub("-- materialized: .*\n", "", view.sql), materialized=False)
        for view in all_views()
        if view.name != "layer_choices"
    ]
    install(tiny.connection, kept)
    assert tiny.rows("select * from neuron_labels").height == 16
    assert tiny.rows("select * from named_neurons").height == 0
    assert [step.view for step in build(tiny.use, kept)] == ["named_neurons"]
    assert tiny.rows("select * from named_neurons").height == 8
    with pytest.raises(WarehouseError, match="layer_choices"):
        tiny.rows("select * from layer_choices")
    install(tiny.connection, list(all_views()))
    assert set(built(tiny)) == set(MATERIALIZED)


def test_a_view_that_is_built_by_image_has_the_rows_of_its_query(tiny, monkeypatch):
    [view] = [view for view in all_views() if view.slices == "image"]
    expected = tiny.rows(f"select * from ({view.sql}\n)")
    monkeypatch.setattr(views, "LARGEST_SLICE", 3)
    [step] = [step for step in build(tiny.use, all_views(), full_refresh=True) if step.view == view.name]
    assert step.rows == expected.height > 3
    assert sorted(tiny.rows(f"select * from {view.name}").rows()) == sorted(expected.rows())
    # DuckDB 2.0 sees no rows in a table that was made by "as select … limit 0" in the same transaction.
    assert tiny.rows(f"select content from view_builds where view = '{view.name}'")["content"][0] != "0"


def test_a_view_that_cannot_be_made_is_named_and_the_old_ones_stay(tiny):
    for name in ("named_neurons", "neuron_labels"):
        with pytest.raises(ViewError, match=rf"view {name} cannot be made: .*no_such_column"):
            install(tiny.connection, changed((name, "select\n", "select no_such_column,\n")))
        assert tiny.rows(f"select * from {name}").height > 0


def test_a_view_of_the_users_own_outlives_a_change_of_ours(tiny):
    tiny.connection.execute("create view mine as select concept from neuron_concepts")
    install(tiny.connection, changed(("named_neurons", "neurons.unit,", "neurons.unit + 0 as unit,")))
    assert tiny.rows("select * from mine").height == 8


def test_a_new_dissection_leaves_the_rows_of_the_others_where_they_are(tiny):
    row = tiny.rows("select * from dissections where dissection_id = 1").to_dicts()[0]
    tiny.connection.execute("update soft_wpmi set similarity = 12345 where dissection_id = 1")
    tiny.write(
        {
            "dissections": [
                {**row, "dissection_id": 77, "top_k": row["top_k"] - 1, "min_images": 1, "fingerprint": "another"}
            ]
        }
    )
    list(build(tiny.use, all_views()))
    assert tiny.rows("select distinct similarity from soft_wpmi where dissection_id = 1")["similarity"].to_list() == [
        12345
    ]
    assert tiny.rows("select * from soft_wpmi where dissection_id = 77").height > 0
    list(build(tiny.use, all_views(), full_refresh=True))
    assert tiny.rows("select * from soft_wpmi where similarity = 12345").height == 0


def test_what_is_kept_by_dissection_is_what_its_query_says(tiny):
    row = tiny.rows("select * from dissections where dissection_id = 1").to_dicts()[0]
    tiny.write({"dissections": [{**row, "dissection_id": 77, "tau": -9.0, "fingerprint": "another"}]})
    list(build(tiny.use, all_views()))
    for view in all_views():
        if view.by_dissection:
            kept, asked = (tiny.rows(f"select * from {source}") for source in (view.name, f"({view.sql}\n)"))
            keys = [column for column in kept.columns if not kept[column].dtype.is_float()]
            assert sorted(kept.select(keys).rows()) == sorted(asked.select(keys).rows())
    tiny.connection.execute("delete from dissections where dissection_id = 77")
    tiny.connection.execute("update table_versions set version = version + 1 where table_name = 'dissections'")
    list(build(tiny.use, all_views()))
    assert tiny.rows("select * from soft_wpmi where dissection_id = 77").height == 0

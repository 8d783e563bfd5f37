"""Every contract of sql/checks: a sound warehouse keeps it, and one that breaks it is told of that one alone."""

from __future__ import annotations

import pytest

from dissectdb.warehouse import Warehouse
from dissectdb.warehouse.contracts import Contract, checks

CONTRACTS = {contract.name: contract for contract in checks()}

# What breaks exactly one contract, by name; a statement a line.
MUTATIONS = {
    "ablation_effects_add_up": """
        update ablation_effects set gained = 2 where ablation_id = 1 and class = 'sad'""",
    "ablations_are_of_one_kind": """
        update ablations set draw = 1 where ablation_id = 2""",
    "activation_maps_are_whole": """
        update activation_maps set top_column = 1 - top_column where neuron_id = 2 and image_id = 3""",
    "activations_are_finite": """
        update activations set value = 'nan' where neuron_id = 1 and image_id = 1""",
    "activations_are_of_known_neurons_and_images": """
        insert into activations values (99, 1, 0.5)""",
    "activations_match_the_ledger": """
        delete from activations where neuron_id = 5 and image_id = 3""",
    "block_sums_match_the_ledger": """
        insert into block_sums values (1, 5, 9, 1, 0.5, 0.25, 0.5, 0.5, 1);
        insert into block_tops values (5, 3, 0.5)""",
    "block_tops_are_activations": """
        insert into block_tops values (5, 3, 0.5)""",
    "confidence_is_the_highest_probability": """
        update predictions set confidence = 0.5 where network_id = 1 and image_id = 2""",
    "controls_belong_to_an_edit": """
        update edits set dissection_id = 2 where edit_id = 3""",
    "defective_images_are_left_out": """
        insert into activations values (1, 9, 0.5)""",
    "dissected_concepts_are_embedded": """
        delete from concept_embeddings where concept_id = 2""",
    "dissections_are_of_finished_extractions": """
        delete from extraction_blocks
        where extraction_id = (select extraction_id from extractions where clip_id = 1 and split_id = 1);
        delete from image_embeddings where image_id <= 8""",
    "dissections_ask_for_what_exists": """
        update dissections set rule = 'guess' where dissection_id = 1""",
    "dissections_ask_for_what_views_hold": """
        update dissections set images_neurons = 21 where dissection_id = 1""",
    "edit_causes_are_of_changed_images": """
        update edit_causes set image_id = 1 where image_id = 2""",
    "edit_intervals_are_ordered": """
        update edit_intervals set low = 0.6 where edit_id = 1 and split_id = 1""",
    "edit_predictions_match_the_ledger": """
        insert into edit_predictions select * from edit_predictions where image_id = 3 and edit_id = 2;
        delete from edit_predictions where image_id = 4 and edit_id = 2""",
    "edit_scales_are_finite_and_not_negative": """
        update edit_scales set scale = -1 where neuron_id = 1""",
    "edit_scales_cover_their_layers": """
        delete from edit_scales where neuron_id = 3""",
    "edited_networks_name_their_edit": """
        update networks set parent_network_id = null where network_id = 2""",
    "edits_are_of_the_dissected_network": """
        update edits set network_id = 2;
        delete from edit_causes;
        update layers set network_id = 2 where layer = 'conv';
        update ablations set network_id = 2;
        update networks set parent_network_id = 2 where network_id = 2""",
    "edits_are_chosen_among_those_measured": """
        update edit_choices set edits_tried = 6""",
    "embeddings_have_unit_length": """
        update image_embeddings set embedding = [1, 1, 0, 0] where image_id = 4""",
    "embeddings_of_a_clip_have_one_width": """
        update concept_embeddings set embedding = [1] where concept_id = 4""",
    "extractions_are_not_repeated": """
        insert into extractions select * replace (99 as extraction_id, 'new' as fingerprint)
        from extractions where extraction_id = 1;
        insert into extraction_blocks select * replace (99 as extraction_id)
        from extraction_blocks where extraction_id = 1""",
    "fingerprints_are_unique": """
        update dissections set fingerprint = 'the same'""",
    "image_classes_are_known": """
        delete from classes where class = 'sad'""",
    "kernel_scores_are_of_kernel_dissections": """
        insert into kernel_scores values (1, 1, 1, 0.5, null)""",
    "keys_are_unique": """
        insert into concept_classes select * from concept_classes where concept_id = 4""",
    "layer_summary_adds_up": """
        delete from neuron_labels where dead and dissection_id = 2""",
    "ledger_blocks_have_no_gaps": """
        update extraction_blocks set block = 2 where block = 1 and extraction_id = 4""",
    "ledger_counts_sound_images": """
        update extraction_blocks set images = images + 1 where block = 1 and extraction_id = 5""",
    "live_neurons_have_one_label": """
        update neuron_labels set concept_id = null where neuron_id = 1""",
    "neurons_of_a_layer_are_contiguous": """
        update neurons set unit = 7 where neuron_id = 8""",
    "null_quantiles_fall": """
        insert into null_quantiles values (1, 1, 1.0, 0.1, 3), (1, 1, 2.0, 0.2, 3)""",
    "predicted_class_has_the_highest_probability": """
        update predictions set class = 'happy' where network_id = 2 and image_id = 8""",
    "predictions_match_the_ledger": """
        insert into predictions select * from predictions where image_id = 3 and network_id = 2;
        delete from predictions where image_id = 4 and network_id = 2""",
    "image_embeddings_match_the_ledger": """
        delete from extraction_blocks
        where extraction_id = (select extraction_id from extractions where clip_id = 1 and split_id = 2)""",
    "probabilities_have_one_per_class": """
        update networks set classes = ['happy', 'sad', 'other'] where network_id = 2""",
    "probabilities_sum_to_one": """
        update predictions set probabilities = [0.2, 0.9] where network_id = 1 and image_id = 2""",
    "rank_permutations_are_permutations": """
        insert into rank_permutations values (1, 0, 0, 0), (1, 0, 1, 0)""",
    "references_exist": """
        insert into concept_classes values (99, 'happy')""",
    "similarities_are_finite": """
        update soft_wpmi set similarity = 'inf' where neuron_id = 1 and concept_id = 1""",
    "splits_are_opened_for_chosen_edits": """
        insert into split_openings select 2, split_id, opened_at from split_openings""",
    "test_is_measured_where_it_was_opened": """
        delete from split_openings""",
    "sound_images_are_not_repeated": """
        update images set sha256 = 'the same' where image_id in (1, 11)""",
}

# Further ways to break a contract that has more than one way.
MORE = [
    ("activation_maps_are_whole", "insert into activation_maps from activation_maps where neuron_id = 2"),
    ("activation_maps_are_whole", "update activation_maps set cells = cells[:3]"),
    ("activation_maps_are_whole", "update activation_maps set low = 'nan' where neuron_id = 1"),
    ("activation_maps_are_whole", "update activation_maps set neuron_id = 99 where neuron_id = 1"),
    ("activations_match_the_ledger", "insert into activations values (5, 3, 0.5)"),
    (
        "activations_match_the_ledger",
        "update activations set image_id = 4 where neuron_id = 5 and image_id = 3",
    ),
    ("activations_match_the_ledger", "delete from activations where neuron_id between 6 and 8 and image_id > 8"),
    ("block_sums_match_the_ledger", "delete from block_sums where neuron_id = 5 and block = 1"),
    ("block_sums_match_the_ledger", "delete from block_sums; delete from block_tops; delete from block_values"),
    ("block_sums_match_the_ledger", "update block_sums set images = images - 1 where neuron_id = 5 and split_id = 2"),
    ("activations_are_of_known_neurons_and_images", "insert into activations values (1, 99, 0.5)"),
    ("activations_are_finite", "insert into activations values (1, 9, '-inf'); update images set defect = null"),
    ("defective_images_are_left_out", "update images set defect = 'blank' where image_id = 16"),
    (
        "embeddings_have_unit_length",
        "update concept_embeddings set embedding = ['nan'::float, 0, 0, 0] where concept_id = 1",
    ),
    ("edit_scales_are_finite_and_not_negative", "update edit_scales set scale = 'nan' where neuron_id = 1"),
    ("edit_scales_are_finite_and_not_negative", "update edit_scales set bias_scale = 'inf' where edit_id = 4"),
    ("edit_scales_are_finite_and_not_negative", "update edit_scales set bias_scale = -0.5 where edit_id = 4"),
    ("edit_scales_cover_their_layers", "insert into edit_scales values (1, 8, 1.0, 1.0)"),
    ("edit_scales_cover_their_layers", "insert into edit_scales values (1, 3, 1.0, 1.0)"),
    ("edit_scales_cover_their_layers", "delete from edit_layers where edit_id = 5"),
    ("edit_scales_cover_their_layers", "insert into edit_layers values (2, 3)"),
    ("edit_scales_cover_their_layers", "update layers set network_id = 2 where layer = 'conv'"),
    ("edit_scales_cover_their_layers", "delete from edit_scales"),
    ("edit_scales_cover_their_layers", "update edits set layer = 'head'"),
    ("edit_predictions_match_the_ledger", "delete from edit_blocks where edit_id = 5 and split_id = 2"),
    ("edit_predictions_match_the_ledger", "delete from edit_predictions where edit_id = 5 and image_id > 8"),
    ("edit_predictions_match_the_ledger", "insert into edit_predictions values (2, 11, 'sad', 0.9, 0.1)"),
    ("controls_belong_to_an_edit", "update edits set control_of = 3 where edit_id = 4"),
    ("controls_belong_to_an_edit", "update edits set control = 'all' where edit_id = 2"),
    ("controls_belong_to_an_edit", "update edits set control_of = 1 where edit_id = 2"),
    ("controls_belong_to_an_edit", "update edits set network_id = 2 where edit_id = 3"),
    ("controls_belong_to_an_edit", "update edits set layer = 'head' where edit_id = 3"),
    ("controls_belong_to_an_edit", "update edits set control_of = null where edit_id = 3"),
    ("edit_intervals_are_ordered", "update edit_intervals set loss_low = 0.2"),
    ("edit_intervals_are_ordered", "update edit_intervals set loss_high = null"),
    ("edit_intervals_are_ordered", "update edit_intervals set high = 'nan'"),
    ("edit_intervals_are_ordered", "update edit_intervals set loss_high = 'inf'"),
    ("edit_intervals_are_ordered", "update edit_intervals set high = 1.5"),
    ("test_is_measured_where_it_was_opened", "update split_openings set split_id = 1"),
    (
        "test_is_measured_where_it_was_opened",
        "insert into edit_blocks select * replace (2 as edit_id) from edit_blocks where edit_id = 1 and split_id = 2",
    ),
    ("test_is_measured_where_it_was_opened", "update networks set edit_id = 2 where edit_id = 1"),
    ("splits_are_opened_for_chosen_edits", "delete from edit_choices"),
    ("splits_are_opened_for_chosen_edits", "update edit_choices set split_id = 2"),
    ("splits_are_opened_for_chosen_edits", "update split_openings set edit_id = 4"),
    ("edits_are_chosen_among_those_measured", "delete from edit_blocks where edit_id = 1 and block = 1"),
    ("edits_are_chosen_among_those_measured", "update edit_choices set edit_id = 3"),
    ("edits_are_chosen_among_those_measured", "update edit_choices set edits_tried = 0"),
    ("edit_causes_are_of_changed_images", "update edit_causes set edit_id = 2"),
    ("edit_causes_are_of_changed_images", "update edit_causes set contribution = 'nan' where rank = 1"),
    ("ablations_are_of_one_kind", "update ablations set neuron_id = null where ablation_id = 1"),
    ("ablations_are_of_one_kind", "update ablations set neurons = 2 where ablation_id = 1"),
    ("ablations_are_of_one_kind", "update ablations set neurons = 0 where ablation_id = 3"),
    ("ablations_are_of_one_kind", "update ablations set dissection_id = 1 where ablation_id = 1"),
    ("ablations_are_of_one_kind", "update ablations set dissection_id = null where ablation_id = 3"),
    ("ablations_are_of_one_kind", "update ablations set neuron_id = 8 where ablation_id = 1"),
    ("ablations_are_of_one_kind", "update ablations set network_id = 2 where ablation_id = 1"),
    ("ablation_effects_add_up", "update ablation_effects set flips = 4 where class = 'sad'"),
    ("ablation_effects_add_up", "update ablation_effects set lost = -1 where class = 'sad'"),
    ("ablation_effects_add_up", "update ablation_effects set loss_change = 'nan' where class = 'sad'"),
    ("ablation_effects_add_up", "update ablation_effects set loss_change_sd = -1 where class = 'sad'"),
    ("ablation_effects_add_up", "delete from ablation_effects where class = 'sad'"),
    ("ablation_effects_add_up", "delete from ablation_effects"),
    ("defective_images_are_left_out", "insert into edit_predictions values (1, 9, 'sad', 0.9, 0.1)"),
    ("ledger_blocks_have_no_gaps", "delete from edit_blocks where block = 0 and edit_id = 2"),
    ("ledger_counts_sound_images", "update edit_blocks set images = images + 1 where edit_id = 2"),
    ("fingerprints_are_unique", "update ablations set fingerprint = 'the same'"),
    ("fingerprints_are_unique", "update edits set fingerprint = 'the same'"),
    ("live_neurons_have_one_label", "update neuron_labels set concept_id = 1 where dead"),
    ("probabilities_sum_to_one", "update predictions set probabilities = [1.2, -0.2]"),
    ("ledger_blocks_have_no_gaps", "update extraction_blocks set images = 0"),
    ("references_exist", "delete from clips"),
    ("references_exist", "delete from splits where split_id = 2"),
    ("references_exist", "update extraction_blocks set extraction_id = 77 where extraction_id = 1"),
    ("neurons_of_a_layer_are_contiguous", "update neurons set neuron_id = 44 where neuron_id = 1"),
    ("similarities_are_finite", "update soft_wpmi set z = 'nan' where neuron_id = 1 and concept_id = 1"),
    ("similarities_are_finite", "insert into kernel_scores values (1, 1, 1, 'nan', null)"),
    ("dissections_ask_for_what_exists", "update dissections set engine = 'auto'"),
    ("dissections_ask_for_what_exists", "update dissections set scorer = 'mine'"),
    ("live_neurons_have_one_label", "delete from soft_wpmi; update neuron_labels set concept_id = null"),
    ("rank_permutations_are_permutations", "update dissections set scorer = 'rank_reorder'"),
    ("rank_permutations_are_permutations", "insert into rank_permutations values (1, 0, 1, 1), (1, 0, 2, 2)"),
    ("null_quantiles_fall", "insert into null_quantiles values (1, 1, 1.0, 0, 3)"),
    ("null_quantiles_fall", "insert into null_quantiles values (1, 1, 'nan', 0.5, 3)"),
    ("null_quantiles_fall", "insert into null_quantiles values (1, 1, 1.0, 0.5, 3), (1, 1, 1.0, 0.5, 3)"),
    ("keys_are_unique", "insert into kernel_scores select 1, 1, 1, 0.5, null from range(2)"),
    ("references_exist", "insert into label_checks values (1, 1, 99, null, true, null, null, null)"),
    *[
        ("keys_are_unique", f"insert into {table} from {table}")
        for table in (
            "edit_layers",
            "edit_blocks",
            "edit_choices",
            "split_openings",
            "edit_intervals",
            "edit_causes",
            "ablations",
            "ablation_effects",
        )
    ],
    ("keys_are_unique", "update edit_causes set rank = 1"),
    *[
        ("references_exist", f"update {table} set {key} = 99")
        for table, keys in {
            "edits": "control_of",
            "edit_layers": "edit_id layer_id",
            "edit_predictions": "edit_id image_id",
            "edit_blocks": "edit_id split_id",
            "edit_choices": "edit_id split_id",
            "split_openings": "edit_id split_id",
            "edit_intervals": "edit_id split_id",
            "edit_causes": "edit_id image_id neuron_id",
            "ablations": "network_id split_id layer_id neuron_id dissection_id concept_id",
            "ablation_effects": "ablation_id",
        }.items()
        for key in keys.split()
    ],
]


def broken(warehouse: Warehouse) -> set[str]:
    return {name for name, contract in CONTRACTS.items() if warehouse.rows(contract.sql).height > 0}


@pytest.fixture(scope="module")
def shared(tiny_file) -> Warehouse:
    """One open warehouse; each test rolls its changes back."""
    with Warehouse(tiny_file) as warehouse:
        yield warehouse


@pytest.fixture
def sound(shared) -> Warehouse:
    shared.connection.begin()
    yield shared
    shared.connection.rollback()


def test_every_contract_has_a_mutation_and_the_other_way_round():
    assert set(MUTATIONS) == set(CONTRACTS)


def test_a_sound_warehouse_keeps_every_contract(sound):
    assert broken(sound) == set()


def test_a_warehouse_of_every_scorer_keeps_every_contract(scored):
    assert broken(scored) == set()


def test_a_neuron_that_rank_reorder_cannot_score_has_no_label_and_breaks_nothing(scored):
    scored.connection.execute("""
        delete from rank_reorder where neuron_id = 1 and dissection_id = 6;
        update neuron_labels set concept_id = null where neuron_id = 1 and dissection_id = 6""")
    assert broken(scored) == set()


def test_a_dissection_whose_kernel_has_not_scored_yet_breaks_nothing(scored):
    scored.connection.execute("delete from kernel_scores; delete from labelled_layers where dissection_id = 9")
    list(scored.build())
    scored.connection.execute("update neuron_labels set concept_id = null where dissection_id = 9")
    assert broken(scored) == set()


def test_a_new_and_empty_warehouse_keeps_every_contract(tmp_path):
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        assert broken(warehouse) == set()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_contract_is_reported_and_no_other(sound, name):
    sound.connection.execute(MUTATIONS[name])
    assert broken(sound) == {name}


@pytest.mark.parametrize(("name", "statement"), MORE)
def test_a_contract_can_be_broken_in_more_ways_than_one(sound, name, statement):
    sound.connection.execute(statement)
    assert sound.rows(CONTRACTS[name].sql).height > 0


def test_an_extraction_that_was_stopped_breaks_nothing(sound):
    """The second block of a layer is not there yet, and a layer that no dissection needs has not begun."""
    sound.connection.execute("""
        delete from extraction_blocks where block = 1 and extraction_id = 3;
        delete from activations where neuron_id between 6 and 8 and image_id between 6 and 8;
        delete from block_tops where neuron_id between 6 and 8 and image_id between 6 and 8;
        delete from block_sums where neuron_id between 6 and 8 and split_id = 1 and block = 1;
        delete from extraction_blocks where extraction_id = 7;
        delete from activations where neuron_id between 1 and 4 and image_id > 10;
        delete from block_tops where neuron_id between 1 and 4 and image_id > 10;
        delete from block_sums where neuron_id between 1 and 4 and split_id = 2""")
    assert broken(sound) == set()


def test_a_search_that_was_stopped_breaks_nothing(sound):
    """The last block of an edit is not there yet, and the controls of the chosen one have not begun on test."""
    sound.connection.execute("""
        delete from edit_blocks where block = 1 and edit_id = 2;
        delete from edit_predictions where edit_id = 2 and image_id between 6 and 8;
        delete from edit_blocks where split_id = 2 and edit_id >= 3;
        delete from edit_predictions where image_id > 10 and edit_id >= 3""")
    assert broken(sound) == set()


def test_classes_of_concepts_need_not_occur_among_the_images(sound):
    sound.connection.execute("insert into concept_classes values (1, 'a class of another dataset')")
    assert broken(sound) == set()


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_a_check_says_what_a_row_of_it_means(contract: Contract):
    assert contract.meaning.startswith("A row is ")
    assert contract.meaning.endswith(".")
    assert contract.sql.startswith("-- A row is ")

"""What the comparison of two dissections asks: $a and $b are their ids, and each query names both.

Every query is bounded in its rows, whatever the size of the warehouse; the page says where it shows a part.
"""

from __future__ import annotations

LAYERS = 1000  # three measures of the chart each
MOVES = 40
NEURONS = 50
SPLITS = 200
WORDS = 60
FLIPS = 12  # images gained, and as many lost

_NETWORKS = """
        networks_compared as (

            select mine.network_id, others.network_id as other_network_id
            from dissections as mine
            cross join dissections as others
            where mine.dissection_id = $a and others.dissection_id = $b

        )
"""

QUESTIONS: dict[str, str] = {
    # A, then B; one row where they are the same. Files by name only: a report is sent to others.
    "sides": r"""
        select
            case when dissection_summary.dissection_id = $a then 'A' else 'B' end as side,
            dissection_summary.* exclude (shown) replace (
                regexp_replace(dissection_summary.clip_weights, '^.*[/\\]', '') as clip_weights
            ),
            regexp_replace(networks.architecture, '^.*[/\\]', '') as architecture,
            regexp_replace(networks.weights, '^.*[/\\]', '') as weights,
            parents.name as parent,
            networks.fingerprint as network_fingerprint,
            datasets.fingerprint as dataset_fingerprint,
            clips.fingerprint as clip_fingerprint,
            concept_sets.fingerprint as concept_set_fingerprint,
            array_to_string(concept_sets.templates, '; ') as templates,
            coalesce(parents.parent_network_id, networks.parent_network_id, networks.network_id) as origin_id,
            dissections.softmax_scale,
            dissections.prior_weight,
            dissections.p_first,
            dissections.p_last,
            dissections.rank_fraction,
            dissections.rank_power,
            dissections.rank_scale,
            dissections.include_dead,
            dissections.min_images,
            dissections.kept_concepts,
            dissections.null_draws,
            dissections.bootstraps,
            dissections.seed,
            dissections.accuracy_images,
            dissections.images_neurons,
            (
                select count(*)
                from (
                    select concepts.concept
                    from concepts
                    inner join dissections as asked on concepts.concept_set_id = asked.concept_set_id
                    where asked.dissection_id in ($a, $b)
                    group by concepts.concept
                    having count(distinct asked.dissection_id) = 2
                ) as common
            ) as concepts_in_common
        from dissection_summary
        inner join dissections on dissection_summary.dissection_id = dissections.dissection_id
        inner join networks on dissections.network_id = networks.network_id
        inner join splits on dissections.split_id = splits.split_id
        inner join datasets on splits.dataset_id = datasets.dataset_id
        inner join clips on dissections.clip_id = clips.clip_id
        inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
        left join networks as parents on networks.parent_network_id = parents.network_id
        where dissection_summary.dissection_id in ($a, $b)
        order by side
        limit 2
    """,
    # One row, over all layers.
    "totals": """
        select
            cast(coalesce(sum(neurons), 0) as bigint) as neurons,
            cast(coalesce(sum(num_labelled), 0) as bigint) as num_labelled,
            cast(sum(num_same_label) as bigint) as num_same_label,
            sum(num_same_label) / nullif(sum(num_labelled), 0) as share_same,
            sum(same_by_chance) as same_by_chance,
            sqrt(sum(chance_sd * chance_sd)) as chance_sd,
            count(share_calibrated) > 0 as is_tested,
            count(other_share_calibrated) > 0 as is_other_tested,
            cast(coalesce(sum(num_calibrated), 0) as bigint) as num_calibrated,
            cast(coalesce(sum(other_num_calibrated), 0) as bigint) as other_num_calibrated,
            cast(coalesce(sum(num_calibrated_in_both), 0) as bigint) as num_calibrated_in_both,
            cast(sum(num_calibrated_same) as bigint) as num_calibrated_same
        from layer_changes
        where dissection_id = $a and other_dissection_id = $b
    """,
    "layers": f"""
        select *
        from layer_changes
        where dissection_id = $a and other_dissection_id = $b
        order by position, layer
        limit {LAYERS}
    """,
    # Neurons of the one that the other has not, by layer.
    "unmatched": f"""
        with counted as (

            select
                neuron_labels.dissection_id,
                named_neurons.layer,
                count(*) as neurons,
                min(named_neurons.position) as position
            from neuron_labels
            inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
            where neuron_labels.dissection_id in ($a, $b)
            group by neuron_labels.dissection_id, named_neurons.layer

        )

        select
            case when counted.dissection_id = $a then 'A' else 'B' end as side,
            counted.layer,
            counted.neurons - coalesce(layer_changes.neurons, 0) as neurons
        from counted
        left join layer_changes
            on
                counted.layer = layer_changes.layer
                and layer_changes.dissection_id = $a
                and layer_changes.other_dissection_id = $b
        where counted.neurons > coalesce(layer_changes.neurons, 0)
        order by side, counted.position, counted.layer
        limit {2 * LAYERS}
    """,
    "moves": f"""
        select
            concept,
            other_concept,
            count(*) as neurons,
            count(*) / sum(count(*)) over () as share,
            case
                when count(q) > 0 and count(other_q) > 0 then count(*) filter (where calibrated and other_calibrated)
            end as num_calibrated,
            cast(sum(count(*)) over () as bigint) as num_moved,
            count(*) over () as num_moves
        from label_changes
        where dissection_id = $a and other_dissection_id = $b and kind = 'moved'
        group by concept, other_concept
        order by neurons desc, concept, other_concept
        limit {MOVES}
    """,
    # What two networks have words for: each concept that is a label of theirs, and the layer that has most of it. Of
    # labels those that chance does not explain, and where no null was drawn, the interpretable ones.
    "words": f"""
        with carried as (

            select
                neuron_labels.dissection_id,
                named_neurons.layer,
                concepts.concept,
                count(*) filter (where coalesce(neuron_labels.calibrated, neuron_labels.interpretable)) as neurons,
                sum(count(*)) over (partition by neuron_labels.dissection_id, named_neurons.layer) as of_layer
            from neuron_labels
            inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
            left join concepts on neuron_labels.concept_id = concepts.concept_id
            where neuron_labels.dissection_id in ($a, $b)
            group by neuron_labels.dissection_id, named_neurons.layer, concepts.concept

        ),

        strongest as (

            select
                dissection_id,
                concept,
                cast(sum(neurons) as bigint) as neurons,
                max(neurons / of_layer) as share,
                arg_max(layer, neurons / of_layer) as layer
            from carried
            where concept is not null and neurons > 0
            group by dissection_id, concept

        )

        select
            coalesce(mine.concept, others.concept) as concept,
            mine.neurons,
            mine.layer,
            mine.share,
            others.neurons as other_neurons,
            others.layer as other_layer,
            others.share as other_share,
            count(*) over () as num_concepts,
            count(mine.concept) over () as num_of_a,
            count(others.concept) over () as num_of_b
        from (select * from strongest where dissection_id = $a) as mine
        full outer join (select * from strongest where dissection_id = $b) as others
            on mine.concept = others.concept
        order by greatest(coalesce(mine.share, 0), coalesce(others.share, 0)) desc, concept
        limit {WORDS}
    """,
    # The surest labels, of either, first.
    "neurons": f"""
        select
            layer,
            unit,
            concept,
            other_concept,
            z,
            other_z,
            q,
            other_q,
            similarity,
            other_similarity,
            count(*) over () as num_moved
        from label_changes
        where dissection_id = $a and other_dissection_id = $b and kind = 'moved'
        order by greatest(z, other_z) desc nulls last, position, layer, unit
        limit {NEURONS}
    """,
    "accuracies": f"""
        with {_NETWORKS}

        select
            named_datasets.dataset,
            network_changes.*,
            network_changes.gained - network_changes.lost as difference,
            network_changes.p_mcnemar <= cast(0.05 as double) as is_evidence
        from network_changes
        inner join networks_compared
            on
                network_changes.network_id = networks_compared.network_id
                and network_changes.other_network_id = networks_compared.other_network_id
        inner join splits on network_changes.split_id = splits.split_id
        inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
        order by network_changes.split_id
        limit {SPLITS}
    """,
    # Of the images that only one network gets right, those of which B is surest, on the last split that both have.
    "flips": f"""
        with {_NETWORKS},

        flips as (

            select
                mine.split,
                mine.split_id,
                mine.image_id,
                mine.true_class,
                mine.predicted_class as class_of_a,
                others.predicted_class as class_of_b,
                others.confidence as confidence_of_b,
                case when others.is_correct then 'gained' else 'lost' end as kind,
                mine.is_correct <> others.is_correct as is_flip
            from networks_compared
            inner join image_predictions as mine on networks_compared.network_id = mine.network_id
            inner join image_predictions as others
                on
                    networks_compared.other_network_id = others.network_id
                    and mine.image_id = others.image_id
            where
                mine.is_correct is not null
                and others.is_correct is not null
                and mine.network_id <> others.network_id

        )

        select
            named_datasets.dataset,
            flips.split,
            flips.kind,
            flips.image_id,
            flips.true_class,
            flips.class_of_a,
            flips.class_of_b,
            flips.confidence_of_b,
            images.thumbnail,
            count(*) over (partition by flips.kind) as num_images
        from flips
        inner join images on flips.image_id = images.image_id
        inner join splits on flips.split_id = splits.split_id
        inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
        where flips.is_flip and flips.split_id = (select max(split_id) from flips)
        qualify
            row_number() over (partition by flips.kind order by flips.confidence_of_b desc, flips.image_id)
            <= {FLIPS}
        order by flips.kind, flips.confidence_of_b desc, flips.image_id
    """,
}

"""What the page asks of the warehouse: one query a part, over the public views, bounded in its rows.

Every query answers for the dissection that the views show. The bounds keep charts under 5,000 rows and pictures
under IMAGES whatever the size of the warehouse; the page says where it shows a part of the whole.
"""

from __future__ import annotations

LAYERS = 1000  # five lines of the charts each
WITHIN_CLASS = "cast(1.645 as double)"  # one in twenty unrelated neurons has a larger z; as in robust_labels
HISTOGRAMS = 24  # layers whose similarities are drawn: those nearest the output
CONCEPTS = 30
CLASSES = 12
CONCEPTS_PER_CLASS = 8
NEURONS, NEURONS_PER_LAYER, IMAGES_PER_NEURON = 12, 3, 8
EXAMPLE_CLASSES, EXAMPLES_PER_CLASS = 7, 3  # of either kind: right and wrong
EDITS = 200

QUESTIONS: dict[str, str] = {
    # One row, or none: the warehouse holds no dissection. Files by name only: a report is sent to others.
    "summary": r"""
        select
            dissection_summary.* exclude (shown) replace (
                regexp_replace(dissection_summary.clip_weights, '^.*[/\\]', '') as clip_weights
            ),
            regexp_replace(networks.architecture, '^.*[/\\]', '') as architecture,
            regexp_replace(networks.weights, '^.*[/\\]', '') as weights,
            parents.name as parent,
            dissections.accuracy_images,
            dissections.images_neurons,
            dissections.bootstraps
        from dissection_summary
        inner join dissections on dissection_summary.dissection_id = dissections.dissection_id
        inner join networks on dissection_summary.network_id = networks.network_id
        left join networks as parents on networks.parent_network_id = parents.network_id
        where dissection_summary.shown
    """,
    # Why images of the probing set were left out.
    "left_out": """
        select
            case
                when images.defect like 'repeat%' then 'repeated'
                when images.defect like 'unreadable%' then 'unreadable'
                else images.defect
            end as reason,
            count(*) as images
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join images on dissections.split_id = images.split_id
        where images.defect is not null
        group by reason
        order by images desc, reason
        limit 10
    """,
    # Edited networks have a section of their own; this one compares what was trained.
    "accuracies": """
        select
            network_accuracies.network,
            datasets.name as dataset,
            network_accuracies.split,
            network_accuracies.images,
            network_accuracies.correct,
            network_accuracies.accuracy,
            network_accuracies.loss,
            network_accuracies.network_id = dissections.network_id as is_shown_network,
            network_accuracies.split_id = dissections.split_id as is_probing_set
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        cross join network_accuracies
        inner join networks on network_accuracies.network_id = networks.network_id
        inner join splits on network_accuracies.split_id = splits.split_id
        inner join datasets on splits.dataset_id = datasets.dataset_id
        where networks.parent_network_id is null or network_accuracies.network_id = dissections.network_id
        order by is_shown_network desc, network_accuracies.network, network_accuracies.split_id
        limit 50
    """,
    # The largest classes of the probing set.
    "classes": f"""
        select
            image_predictions.true_class as class,
            count(*) as images,
            count(*) filter (where image_predictions.is_correct) as correct,
            count(*) over () as num_classes
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join image_predictions
            on
                dissections.network_id = image_predictions.network_id
                and dissections.split_id = image_predictions.split_id
        where image_predictions.true_class is not null
        group by image_predictions.true_class
        order by images desc, class
        limit {CLASSES}
    """,
    # Both rules, and what the labels that chance does not explain withstand; NULL: that was not tested.
    "layers": f"""
        with tested as (

            select
                layer,
                count(p) as num_tested,
                count(*) filter (where calibrated and split_half_agrees) as num_agreeing,
                count(split_half_agrees) as num_halved,
                count(*) filter (where calibrated and z_within_class > {WITHIN_CLASS}) as num_within_class,
                count(z_within_class) as num_classed,
                avg(bootstrap_share) filter (where calibrated) as bootstrap_share
            from neuron_concepts
            group by layer

        ),

        robust as (

            select layer, count(*) as num_robust
            from robust_labels
            group by layer

        )

        select
            layer_summary.* replace (
                case when tested.num_tested > 0 then layer_summary.num_calibrated end as num_calibrated
            ),
            layer_summary.num_above_tau / layer_summary.neurons as share_above_tau,
            case
                when tested.num_tested > 0 then layer_summary.num_calibrated / layer_summary.neurons
            end as share_calibrated,
            case when tested.num_halved > 0 then tested.num_agreeing end as num_agreeing,
            case when tested.num_classed > 0 then tested.num_within_class end as num_within_class,
            tested.bootstrap_share,
            case when tested.num_halved > 0 then coalesce(robust.num_robust, 0) end as num_robust,
            case
                when tested.num_halved > 0 then coalesce(robust.num_robust, 0) / layer_summary.neurons
            end as share_robust
        from layer_summary
        inner join tested on layer_summary.layer = tested.layer
        left join robust on layer_summary.layer = robust.layer
        order by layer_summary.position, layer_summary.layer
        limit {LAYERS}
    """,
    # The figure of the original study: its layer is the one with most interpretable neurons.
    "concepts_by_neuron": f"""
        select
            concept_counts_by_neuron.layer,
            concept_counts_by_neuron.concept,
            concept_counts_by_neuron.neurons,
            concept_counts_by_neuron.share,
            count(*) over () as num_concepts,
            cast(sum(concept_counts_by_neuron.neurons) over () as bigint) as num_neurons
        from concept_counts_by_neuron
        where concept_counts_by_neuron.layer = (
            select layer from layer_summary order by num_interpretable desc, position desc limit 1
        )
        order by concept_counts_by_neuron.neurons desc, concept_counts_by_neuron.concept
        limit {CONCEPTS}
    """,
    "concepts_by_prediction": f"""
        with largest_classes as (

            select
                image_predictions.true_class as class,
                count(*) as images,
                count(*) filter (where image_predictions.is_correct) as correct
            from shown_dissection
            inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
            inner join image_predictions
                on
                    dissections.network_id = image_predictions.network_id
                    and dissections.split_id = image_predictions.split_id
            where image_predictions.true_class is not null
            group by image_predictions.true_class
            order by images desc, class
            limit {CLASSES}

        )

        select
            counts.layer,
            counts.class,
            counts.concept,
            counts.images,
            largest_classes.correct,
            counts.share,
            counts.low,
            counts.high,
            counts.lift
        from concept_counts_by_prediction as counts
        inner join largest_classes on counts.class = largest_classes.class
        where counts.layer = (
            select layer from layer_summary order by num_interpretable desc, position desc limit 1
        )
        qualify
            row_number() over (
                partition by counts.class order by counts.share desc, counts.concept
            ) <= {CONCEPTS_PER_CLASS}
        order by largest_classes.images desc, counts.class, counts.share desc, counts.concept
    """,
    "similarities": f"""
        select layer, position, low, high, neurons
        from similarity_histogram
        qualify dense_rank() over (order by position desc, layer) <= {HISTOGRAMS}
        order by position, layer, low
    """,
    # The strongest neurons whose label chance does not explain, each with its best images: a few of each layer, and
    # of each concept in it one, so that they differ. Where no null was drawn, the interpretable ones by similarity.
    "top_neurons": f"""
        with of_concepts as (

            select layer, unit, concept, similarity, runner_up, z, q, z_within_class
            from neuron_concepts
            where case when p is null then interpretable else calibrated end
            qualify
                row_number() over (
                    partition by layer, concept
                    order by z desc nulls last, similarity desc, unit
                ) = 1

        ),

        strongest as (

            select
                *,
                row_number() over (order by z desc nulls last, similarity desc, layer, unit) as place
            from of_concepts
            qualify
                row_number() over (
                    partition by layer
                    order by z desc nulls last, similarity desc, unit
                ) <= {NEURONS_PER_LAYER}
            order by place
            limit {NEURONS}

        )

        select
            strongest.layer,
            strongest.unit,
            strongest.concept,
            strongest.similarity,
            strongest.runner_up,
            strongest.z,
            strongest.q,
            strongest.z_within_class,
            neuron_accuracies.accuracy,
            top_images.rank,
            top_images.image_id,
            top_images.value,
            top_images.true_class,
            top_images.predicted_class,
            images.thumbnail
        from strongest
        inner join top_images
            on
                strongest.layer = top_images.layer
                and strongest.unit = top_images.unit
        inner join images on top_images.image_id = images.image_id
        left join neuron_accuracies
            on
                strongest.layer = neuron_accuracies.layer
                and strongest.unit = neuron_accuracies.unit
        where top_images.rank <= {IMAGES_PER_NEURON}
        order by strongest.place, top_images.rank
    """,
    # Right and wrong predictions of which the network was surest; by predicted class where there is no truth.
    "examples": f"""
        with judged as (

            select
                image_predictions.image_id,
                coalesce(image_predictions.true_class, image_predictions.predicted_class) as class,
                case
                    when image_predictions.true_class is null then 'unknown'
                    when image_predictions.is_correct then 'right'
                    else 'wrong'
                end as kind,
                image_predictions.predicted_class,
                image_predictions.confidence
            from shown_dissection
            inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
            inner join image_predictions
                on
                    dissections.network_id = image_predictions.network_id
                    and dissections.split_id = image_predictions.split_id

        ),

        largest_classes as (

            select class, count(*) as images, count(*) over () as num_classes
            from judged
            group by class
            order by images desc, class
            limit {EXAMPLE_CLASSES}

        )

        select
            judged.class,
            judged.kind,
            row_number() over (
                partition by judged.class, judged.kind
                order by judged.confidence desc, judged.image_id
            ) as rank,
            judged.image_id,
            judged.predicted_class,
            judged.confidence,
            images.thumbnail,
            largest_classes.num_classes
        from judged
        inner join largest_classes on judged.class = largest_classes.class
        inner join images on judged.image_id = images.image_id
        qualify
            row_number() over (
                partition by judged.class, judged.kind
                order by judged.confidence desc, judged.image_id
            ) <= {EXAMPLES_PER_CLASS}
        order by largest_classes.images desc, judged.class, judged.kind, rank
    """,
    # Edits that rest on the shown dissection; edits_tried is what p_corrected corrects for.
    "edits": f"""
        select
            edit_results.*,
            edits.name as edit,
            choices.split as chosen_on,
            count(*) over () as num_results
        from edit_results
        inner join shown_dissection on edit_results.dissection_id = shown_dissection.dissection_id
        inner join edits on edit_results.edit_id = edits.edit_id
        left join (
            select edit_choices.edit_id, splits.split
            from edit_choices
            inner join splits on edit_choices.split_id = splits.split_id
        ) as choices on edit_results.edit_id = choices.edit_id
        order by choices.split is null, edit_results.edit_id desc, edit_results.split_id
        limit {EDITS}
    """,
}

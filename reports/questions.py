"""What the page asks of the warehouse: one query a part, over the public views, bounded in its rows.

Every query answers for the dissection that the views show. The bounds keep charts under 5,000 rows and pictures
under IMAGES whatever the size of the warehouse; the page says where it shows a part of the whole.
"""

from __future__ import annotations

LAYERS = 1000  # five lines of the charts each
WITHIN_CLASS = "cast(1.645 as double)"  # one in twenty unrelated neurons has a larger z; as in robust_labels
HISTOGRAMS = 24  # layers whose similarities are drawn: those nearest the output
CLASSES = 12
NEURONS, NEURONS_PER_LAYER, IMAGES_PER_NEURON = 12, 3, 8
EXAMPLE_CLASSES, EXAMPLES_PER_CLASS = 7, 3  # of either kind: right and wrong

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
            dissections.bootstraps,
            (
                select count(images.class)
                from images
                where images.split_id = dissections.split_id and images.defect is null
            ) as images_with_class
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
                when images.defect like 'blank%' then 'blank'
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
    # Files in the dataset's folder that are not among its images.
    "files_left_out": """
        select
            left_out.reason || case when left_out.detail = '' then '' else ' (' || left_out.detail || ')' end as reason,
            left_out.files
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join splits on dissections.split_id = splits.split_id
        inner join left_out on splits.dataset_id = left_out.dataset_id
        order by left_out.files desc, reason
        limit 10
    """,
    # Edited networks have a section of their own; this one compares what was trained.
    "accuracies": """
        select
            network_accuracies.network,
            network_accuracies.dataset,
            network_accuracies.split,
            network_accuracies.images,
            network_accuracies.correct,
            network_accuracies.accuracy,
            network_accuracies.loss,
            network_accuracies.num_unknown,
            network_accuracies.network_id = dissections.network_id as is_shown_network,
            network_accuracies.split_id = dissections.split_id as is_probing_set
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        cross join network_accuracies
        inner join networks on network_accuracies.network_id = networks.network_id
        where networks.parent_network_id is null or network_accuracies.network_id = dissections.network_id
        order by is_shown_network desc, network_accuracies.network, network_accuracies.split_id
        limit 50
    """,
    # The largest classes of the probing set; correct is NULL for one that is no output of the network.
    "classes": f"""
        select
            image_predictions.true_class as class,
            count(*) as images,
            case
                when count(image_predictions.is_correct) > 0 then count(*) filter (where image_predictions.is_correct)
            end as correct,
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
                count(*) filter (where calibrated and z_within_class is null) as num_unclassed,
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
            case when tested.num_classed > 0 then tested.num_unclassed end as num_unclassed,
            tested.bootstrap_share,
            case
                when tested.num_halved > 0 or tested.num_classed > 0 then coalesce(robust.num_robust, 0)
            end as num_robust,
            case
                when tested.num_halved > 0 or tested.num_classed > 0
                    then coalesce(robust.num_robust, 0) / layer_summary.neurons
            end as share_robust
        from layer_summary
        inner join tested on layer_summary.layer = tested.layer
        left join robust on layer_summary.layer = robust.layer
        order by layer_summary.position, layer_summary.layer
        limit {LAYERS}
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
            top_images.is_correct,
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
    # Right and wrong predictions of which the network was surest, and those of which neither is known; by predicted
    # class where there is no truth.
    "examples": f"""
        with judged as (

            select
                image_predictions.image_id,
                coalesce(image_predictions.true_class, image_predictions.predicted_class) as class,
                case
                    when image_predictions.is_correct is null then 'unknown'
                    when image_predictions.is_correct then 'right'
                    else 'wrong'
                end as kind,
                image_predictions.true_class,
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
            judged.true_class,
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
    # What the labels rest on, to the byte: fingerprints, versions and the device of the passes.
    "provenance": """
        with passes as (

            select
                string_agg(distinct extractions.device, ', ' order by extractions.device) as devices,
                string_agg(distinct extractions.precision, ', ' order by extractions.precision) as precisions,
                string_agg(distinct extractions.versions, '; ' order by extractions.versions) as versions
            from extractions
            inner join dissections on extractions.split_id = dissections.split_id
            inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
            left join layers on extractions.layer_id = layers.layer_id
            where
                coalesce(extractions.network_id, layers.network_id, dissections.network_id) = dissections.network_id
                and coalesce(extractions.clip_id, dissections.clip_id) = dissections.clip_id

        )

        select
            passes.devices,
            passes.precisions,
            passes.versions,
            dissections.seed,
            datasets.fingerprint as dataset,
            networks.fingerprint as network,
            clips.fingerprint as clip,
            concept_sets.fingerprint as concept_set,
            dissections.fingerprint as dissection
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join networks on dissections.network_id = networks.network_id
        inner join splits on dissections.split_id = splits.split_id
        inner join datasets on splits.dataset_id = datasets.dataset_id
        inner join clips on dissections.clip_id = clips.clip_id
        inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
        cross join passes
    """,
    # The largest classes only; of classes that are no output, also the commonest answers.
    "confusion": f"""
        with shown as (

            select confusion_matrices.*
            from confusion_matrices
            inner join dissections
                on
                    confusion_matrices.network_id = dissections.network_id
                    and confusion_matrices.split_id = dissections.split_id
            inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id

        ),

        largest as (

            select true_class as class
            from shown
            group by true_class
            order by sum(images) desc, class
            limit {CLASSES}

        ),

        answers as (

            select predicted_class as class
            from shown
            where is_correct is null
            group by predicted_class
            order by sum(images) desc, class
            limit {CLASSES}

        )

        select shown.true_class, shown.predicted_class, shown.images, shown.share, shown.is_correct
        from shown
        left join (select class, min(position) as position from classes group by class) as places
            on shown.true_class = places.class
        left join (select class, min(position) as position from classes group by class) as answered
            on shown.predicted_class = answered.class
        where
            true_class in (select class from largest)
            and (
                predicted_class in (select class from largest)
                or (is_correct is null and predicted_class in (select class from answers))
            )
        order by places.position nulls last, true_class, answered.position nulls last, predicted_class
    """,
    # The z of labels beside what chance alone would give.
    "calibration": f"""
        select layer, position, low, high, neurons, expected
        from calibration_histogram
        qualify dense_rank() over (order by position desc, layer) <= {HISTOGRAMS}
        order by position, layer, low
    """,
    # The null's quantiles: the z that one in two, twenty and a hundred labels of unrelated neurons reach.
    "null_limits": """
        select
            named_layers.layer,
            min(null_quantiles.z) filter (where null_quantiles.p <= 0.5) as median,
            min(null_quantiles.z) filter (where null_quantiles.p <= 0.05) as z_05,
            min(null_quantiles.z) filter (where null_quantiles.p <= 0.01) as z_01
        from null_quantiles
        inner join shown_dissection on null_quantiles.dissection_id = shown_dissection.dissection_id
        inner join named_layers on null_quantiles.layer_id = named_layers.layer_id
        inner join (
            select dissection_id, layer_id, max(null_group) as null_group from null_quantiles group by all
        ) as longest
            on null_quantiles.dissection_id = longest.dissection_id
            and null_quantiles.layer_id = longest.layer_id and null_quantiles.null_group = longest.null_group
        group by named_layers.layer
        order by named_layers.layer
    """,
}

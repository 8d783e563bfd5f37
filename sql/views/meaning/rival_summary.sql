-- How well the labels of each method describe the neurons of a layer: means with 95 % intervals.
-- grain: rival_id, layer, reference
-- public
--
-- Every network, set of images and CLIP that was judged is here, whichever dissection the other views show.
--
-- control, reference: as in rival_scores. An interval is that of a bootstrap over the layer's neurons.
-- neurons: those with a label. measured: those of them whose measures can be known. labels: different labels.
-- most_sharing: neurons that share the most frequent one. share_believed: labels with q at most 0.05; NULL by class,
-- because shuffling images within classes leaves the classes where they are.
-- outputs: neurons that are outputs of the network. names_output: the share of them whose label is the output's name.

with

means as (

    select
        rival_id,
        layer_id,
        reference,
        max(neurons) as measured,
        max(value) filter (where measure = 'pearson') as pearson,
        max(low) filter (where measure = 'pearson') as pearson_low,
        max(high) filter (where measure = 'pearson') as pearson_high,
        max(value) filter (where measure = 'ap') as ap,
        max(low) filter (where measure = 'ap') as ap_low,
        max(high) filter (where measure = 'ap') as ap_high,
        max(value) filter (where measure = 'ap_corrected') as ap_corrected,
        max(low) filter (where measure = 'ap_corrected') as ap_corrected_low,
        max(high) filter (where measure = 'ap_corrected') as ap_corrected_high,
        max(value) filter (where measure = 'f1') as f1,
        max(low) filter (where measure = 'f1') as f1_low,
        max(high) filter (where measure = 'f1') as f1_high,
        max(value) filter (where measure = 'iou') as iou,
        max(low) filter (where measure = 'iou') as iou_low,
        max(high) filter (where measure = 'iou') as iou_high,
        max(value) filter (where measure = 'auc') as auc,
        max(low) filter (where measure = 'auc') as auc_low,
        max(high) filter (where measure = 'auc') as auc_high
    from rival_intervals
    where other_rival_id is null and reference <> 'output'
    group by rival_id, layer_id, reference

),

of_outputs as (

    select
        rival_id,
        layer_id,
        max(neurons) as outputs,
        max(value) filter (where measure = 'names_output') as names_output,
        max(value) filter (where measure = 'output_similarity') as output_similarity
    from rival_intervals
    where other_rival_id is null and reference = 'output'
    group by rival_id, layer_id

),

labelled as (

    select
        rival_labels.rival_id,
        neurons.layer_id,
        rival_labels.rival_text_id,
        count(*) over (
            partition by rival_labels.rival_id, neurons.layer_id, rival_labels.rival_text_id
        ) as sharing
    from rival_labels
    inner join neurons on rival_labels.neuron_id = neurons.neuron_id

),

counted as (

    select
        rival_id,
        layer_id,
        count(*) as neurons,
        count(distinct rival_text_id) as labels,
        max(sharing) as most_sharing
    from labelled
    group by rival_id, layer_id

),

judged as (

    select
        rival_quality.rival_id,
        neurons.layer_id,
        rival_quality.reference,
        cast(count(*) filter (where rival_quality.q <= cast(0.05 as double)) as double) / nullif(count(rival_quality.q), 0)
        as share_believed
    from rival_quality
    inner join neurons on rival_quality.neuron_id = neurons.neuron_id
    group by rival_quality.rival_id, neurons.layer_id, rival_quality.reference

)

select
    named_rivals.network,
    named_layers.layer,
    named_rivals.method,
    named_rivals.control,
    judged.reference,
    counted.neurons,
    coalesce(means.measured, 0) as measured,
    counted.labels,
    counted.most_sharing,
    judged.share_believed,
    means.pearson,
    means.pearson_low,
    means.pearson_high,
    means.ap,
    means.ap_low,
    means.ap_high,
    means.ap_corrected,
    means.ap_corrected_low,
    means.ap_corrected_high,
    means.f1,
    means.f1_low,
    means.f1_high,
    means.iou,
    means.iou_low,
    means.iou_high,
    means.auc,
    means.auc_low,
    means.auc_high,
    of_outputs.outputs,
    of_outputs.names_output,
    of_outputs.output_similarity,
    named_rivals.clip,
    named_rivals.dataset,
    named_rivals.split,
    named_layers.position,
    judged.rival_id,
    named_rivals.dissection_id
from judged
inner join named_rivals on judged.rival_id = named_rivals.rival_id
inner join named_layers on judged.layer_id = named_layers.layer_id
inner join counted on judged.rival_id = counted.rival_id and judged.layer_id = counted.layer_id
left join means
    on
        judged.rival_id = means.rival_id
        and judged.layer_id = means.layer_id
        and judged.reference = means.reference
left join of_outputs on judged.rival_id = of_outputs.rival_id and judged.layer_id = of_outputs.layer_id

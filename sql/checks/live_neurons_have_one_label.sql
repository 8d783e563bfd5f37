-- A row is a live neuron without exactly one label, or a dead or sparse neuron with a label.
--
-- A live neuron may lack a label in these cases: all concepts tie for it; its labels are not built;
-- the kernel has not scored its layer yet (a layer of unlabelled_layers without scores; one with scores is labelled by
-- them until it is labelled anew); or the scorer is rank_reorder, and its top images are all equally active or unlike
-- all concepts, so that it has no scores.

with

labels as (

    select dissection_id, neuron_id, count(concept_id) as labels
    from neuron_labels
    group by dissection_id, neuron_id

),

scored as (

    select
        dissection_id,
        neuron_id,
        count(*) > 1 and nd_tied(min(similarity), max(similarity)) = max(similarity) as alike
    from concept_scores
    group by dissection_id, neuron_id

)

select
    dissected_neurons.dissection_id,
    dissected_neurons.neuron_id,
    dissected_neurons.dead,
    dissected_neurons.sparse,
    coalesce(labels.labels, 0) as labels
from dissected_neurons
inner join dissections on dissected_neurons.dissection_id = dissections.dissection_id
left join scored
    on
        dissected_neurons.dissection_id = scored.dissection_id
        and dissected_neurons.neuron_id = scored.neuron_id
left join labels
    on
        dissected_neurons.dissection_id = labels.dissection_id
        and dissected_neurons.neuron_id = labels.neuron_id
left join unlabelled_layers
    on
        dissected_neurons.dissection_id = unlabelled_layers.dissection_id
        and dissected_neurons.layer_id = unlabelled_layers.layer_id
where
    dissected_neurons.dissection_id in (select dissection_id from labels)
    and coalesce(labels.labels, 0) <> case
        when dissected_neurons.dead or dissected_neurons.sparse then 0
        when dissections.scorer = 'rank_reorder' and scored.neuron_id is null then 0
        when scored.alike then 0
        when
            dissections.engine = 'kernel'
            and unlabelled_layers.layer_id is not null
            and scored.neuron_id is null
            then 0
        else 1
    end

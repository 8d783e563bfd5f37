-- The label of each neuron in one dissection beside its label in another, for every two dissections.
-- grain: dissection_id, other_dissection_id, layer, unit
-- public
--
-- The two dissections are of the same network, or one network is an edit of the other, or both are edits of a third.
-- Units of unrelated networks cannot be compared.
-- Neurons are matched by their module, how it was recorded, and their unit. If each network has the module recorded in
-- one way only, the two ways may differ.
-- same: whether the labels are the same text; images, CLIP, concepts and scorer may differ. NULL if either neuron has
-- no label, or if the two concept sets share no concept, because different words may mean the same.
-- kind: kept, moved (to another concept), vanished (label only in the first), appeared (label only in the other),
-- none, or unknown (labels in both, from sets that share no concept).

with

origins as (

    select
        networks.network_id,
        coalesce(parents.parent_network_id, networks.parent_network_id, networks.network_id) as origin_id
    from networks
    left join networks as parents on networks.parent_network_id = parents.network_id

),

matched_layers as (

    select
        mine.layer_id,
        mine.layer,
        mine.position,
        theirs.layer_id as other_layer_id
    from named_layers as mine
    inner join origins as my_origins on mine.network_id = my_origins.network_id
    inner join named_layers as theirs
        on
            mine.module = theirs.module
            and (mine.way = theirs.way or mine.layer = theirs.layer)
    inner join origins as their_origins
        on
            theirs.network_id = their_origins.network_id
            and my_origins.origin_id = their_origins.origin_id

),

comparable_sets as (

    select
        mine.concept_set_id,
        theirs.concept_set_id as other_concept_set_id
    from concepts as mine
    inner join concepts as theirs on mine.concept = theirs.concept
    group by mine.concept_set_id, theirs.concept_set_id

)

select
    matched_layers.layer,
    mine.unit,
    my_concepts.concept,
    their_concepts.concept as other_concept,
    case when comparable_sets.concept_set_id is not null then my_concepts.concept = their_concepts.concept end as same,
    case
        when my_concepts.concept = their_concepts.concept then 'kept'
        when comparable_sets.concept_set_id is not null then 'moved'
        when my_concepts.concept is not null and their_concepts.concept is not null then 'unknown'
        when my_concepts.concept is not null then 'vanished'
        when their_concepts.concept is not null then 'appeared'
        else 'none'
    end as kind,
    my_labels.similarity,
    their_labels.similarity as other_similarity,
    my_labels.z,
    their_labels.z as other_z,
    my_labels.q,
    their_labels.q as other_q,
    my_labels.calibrated,
    their_labels.calibrated as other_calibrated,
    my_labels.interpretable,
    their_labels.interpretable as other_interpretable,
    matched_layers.position,
    their_labels.dissection_id as other_dissection_id,
    my_labels.dissection_id
from neuron_labels as my_labels
inner join neurons as mine on my_labels.neuron_id = mine.neuron_id
inner join matched_layers on mine.layer_id = matched_layers.layer_id
inner join neurons as theirs
    on
        matched_layers.other_layer_id = theirs.layer_id
        and mine.unit = theirs.unit
inner join neuron_labels as their_labels
    on
        theirs.neuron_id = their_labels.neuron_id
        and my_labels.dissection_id <> their_labels.dissection_id
left join concepts as my_concepts on my_labels.concept_id = my_concepts.concept_id
left join concepts as their_concepts on their_labels.concept_id = their_concepts.concept_id
left join comparable_sets
    on
        my_concepts.concept_set_id = comparable_sets.concept_set_id
        and their_concepts.concept_set_id = comparable_sets.other_concept_set_id

-- The concepts of the neurons that contributed most to the changed predictions of a chosen edit.
-- grain: edit_id, split_id, concept
-- public
--
-- A neuron counts for an image if it is among the few with the largest contributions to the new class (edit_causes).
-- An image counts once for each concept of these neurons. contribution: the mean over these neurons and images.

with

spoken as (

    select
        edit_flips.edit_id,
        edit_flips.split,
        edit_flips.split_id,
        edit_flips.image_id,
        edit_flips.kind,
        edit_flips.dissection_id,
        concepts.concept,
        avg(edit_causes.contribution) as contribution
    from edit_flips
    inner join edit_causes
        on
            edit_flips.edit_id = edit_causes.edit_id
            and edit_flips.image_id = edit_causes.image_id
    inner join neuron_labels
        on
            edit_causes.neuron_id = neuron_labels.neuron_id
            and edit_flips.dissection_id = neuron_labels.dissection_id
    inner join concepts on neuron_labels.concept_id = concepts.concept_id
    group by
        edit_flips.edit_id,
        edit_flips.split,
        edit_flips.split_id,
        edit_flips.image_id,
        edit_flips.kind,
        edit_flips.dissection_id,
        concepts.concept

)

select
    edit_id,
    split,
    concept,
    count(*) as flips,
    count(*) filter (where kind = 'gained') as gained,
    count(*) filter (where kind = 'lost') as lost,
    avg(contribution) as contribution,
    split_id,
    dissection_id
from spoken
group by edit_id, split, concept, split_id, dissection_id

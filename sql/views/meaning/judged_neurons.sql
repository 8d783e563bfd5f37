-- How many of each labelled neuron's top images belong to a class of its label.
-- grain: dissection_id, neuron_id
-- materialized: table
--
-- accuracy: NULL if no class of the label has an image in the probing set, or if none of the top images has a class.
-- Images on which the neuron does not fire do not count.
-- lift: accuracy divided by the share of the label's classes among the sound images of the probing set. Chance differs
-- by concept, because a concept is mapped to one or more classes of unequal size.

with

class_counts as (

    select split_id, class, count(*) as images
    from images
    where defect is null and class is not null
    group by split_id, class

),

concept_chances as (

    select
        dissections.dissection_id,
        mapped_classes.concept_id,
        sum(class_counts.images) / max(totals.images) as chance
    from dissections
    inner join concepts on dissections.concept_set_id = concepts.concept_set_id
    inner join mapped_classes on concepts.concept_id = mapped_classes.concept_id
    inner join class_counts
        on
            dissections.split_id = class_counts.split_id
            and mapped_classes.class = class_counts.class
    inner join (
        select split_id, sum(images) as images from class_counts group by split_id
    ) as totals on dissections.split_id = totals.split_id
    group by dissections.dissection_id, mapped_classes.concept_id

),

best_images as (

    select
        neuron_labels.dissection_id,
        neuron_labels.neuron_id,
        avg(case when mapped_classes.class is null then 0 else 1 end) as accuracy
    from neuron_labels
    inner join dissections on neuron_labels.dissection_id = dissections.dissection_id
    inner join top_activations
        on
            neuron_labels.neuron_id = top_activations.neuron_id
            and dissections.split_id = top_activations.split_id
            and least(dissections.accuracy_images, neuron_labels.images_fired) >= top_activations.rank
    inner join images on top_activations.image_id = images.image_id
    left join mapped_classes
        on
            neuron_labels.concept_id = mapped_classes.concept_id
            and images.class = mapped_classes.class
    where neuron_labels.concept_id is not null and images.class is not null
    group by neuron_labels.dissection_id, neuron_labels.neuron_id

)

select
    neuron_labels.dissection_id,
    neuron_labels.neuron_id,
    neuron_labels.layer_id,
    neuron_labels.concept_id,
    case when concept_chances.chance is not null then best_images.accuracy end as accuracy,
    best_images.accuracy / concept_chances.chance as lift
from neuron_labels
left join best_images
    on
        neuron_labels.dissection_id = best_images.dissection_id
        and neuron_labels.neuron_id = best_images.neuron_id
left join concept_chances
    on
        neuron_labels.dissection_id = concept_chances.dissection_id
        and neuron_labels.concept_id = concept_chances.concept_id
where neuron_labels.concept_id is not null

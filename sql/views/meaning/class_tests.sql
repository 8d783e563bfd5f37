-- How rare is a label among neurons that know the classes of the images and nothing else?
-- grain: dissection_id, neuron_id
--
-- Such a neuron has the activations of this one, after they changed places within each class, and takes its label by
-- the same rule. p_within: how often its label has at least this z within classes. q_within: the same, corrected for
-- the tested labels of the layer (Benjamini and Hochberg 1995).
-- Both are NULL if no image could change its place (images without classes, or one image of each), if there are too
-- many images and concepts, or if an earlier version, which had no such test, made the label.

with

checked as (

    select
        neuron_labels.dissection_id,
        neuron_labels.neuron_id,
        neuron_labels.layer_id,
        label_checks.z_within_class,
        label_checks.p_within
    from neuron_labels
    inner join label_checks
        on
            neuron_labels.dissection_id = label_checks.dissection_id
            and neuron_labels.neuron_id = label_checks.neuron_id
            and neuron_labels.concept_id = label_checks.concept_id

),

stepped as (

    select
        *,
        p_within * count(*) over (partition by dissection_id, layer_id)
        / row_number() over (partition by dissection_id, layer_id order by p_within, neuron_id) as step
    from checked
    where p_within is not null

),

corrected as (

    select
        dissection_id,
        neuron_id,
        min(step) over (
            partition by dissection_id, layer_id
            order by p_within, neuron_id
            rows between current row and unbounded following
        ) as q_within
    from stepped

)

select
    checked.dissection_id,
    checked.neuron_id,
    checked.z_within_class,
    checked.p_within,
    corrected.q_within
from checked
left join corrected
    on
        checked.dissection_id = corrected.dissection_id
        and checked.neuron_id = corrected.neuron_id

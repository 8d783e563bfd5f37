-- A row is a live neuron without exactly one label, or a dead one with a label.

with

labels as (

    select dissection_id, neuron_id, count(concept_id) as labels
    from neuron_labels
    group by dissection_id, neuron_id

)

select
    dissected_neurons.dissection_id,
    dissected_neurons.neuron_id,
    dissected_neurons.dead,
    coalesce(labels.labels, 0) as labels
from dissected_neurons
left join labels
    on
        dissected_neurons.dissection_id = labels.dissection_id
        and dissected_neurons.neuron_id = labels.neuron_id
where coalesce(labels.labels, 0) <> case when dissected_neurons.dead then 0 else 1 end

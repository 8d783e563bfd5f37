-- How the similarities of a layer's neurons to their labels are distributed, in bars of equal width.
-- grain: network, layer, low, dissection_id
--
-- Forty bars cover the range of the whole dissection, so that the histograms of its layers can be compared.

with

labelled as (

    select
        named_neurons.network,
        named_neurons.layer,
        named_neurons.position,
        neuron_labels.similarity,
        neuron_labels.dissection_id
    from shown_dissection
    inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    where neuron_labels.similarity is not null

),

ranges as (

    select
        dissection_id,
        min(similarity) as lowest,
        greatest((max(similarity) - min(similarity)) / 40, 1e-9) as width
    from labelled
    group by dissection_id

),

placed as (

    select
        labelled.network,
        labelled.layer,
        labelled.position,
        labelled.dissection_id,
        least(floor((labelled.similarity - ranges.lowest) / ranges.width), 39) as bar
    from labelled
    inner join ranges on labelled.dissection_id = ranges.dissection_id

)

select
    placed.network,
    placed.layer,
    ranges.lowest + placed.bar * ranges.width as low,
    ranges.lowest + (placed.bar + 1) * ranges.width as high,
    count(*) as neurons,
    placed.position,
    placed.dissection_id
from placed
inner join ranges on placed.dissection_id = ranges.dissection_id
group by
    placed.network,
    placed.layer,
    placed.bar,
    ranges.lowest,
    ranges.width,
    placed.position,
    placed.dissection_id

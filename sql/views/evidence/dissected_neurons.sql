-- The neurons that each dissection looks at, and which of them are dead.
-- grain: dissection_id, neuron_id
-- materialized: table
--
-- A dead neuron is constant over the probing set, or takes fewer different values than the scorer looks at
-- images: its best images would be decided by ties. It is kept, marked, and takes no label.
-- A module that was recorded with several poolings is several layers, and all of them count.

with

recorded as (

    select distinct
        finished_extractions.split_id,
        layers.network_id,
        layers.layer_id
    from finished_extractions
    inner join layers on finished_extractions.layer_id = layers.layer_id
    where finished_extractions.target = 'activations'

)

select
    dissections.dissection_id,
    neurons.neuron_id,
    neurons.layer_id,
    neuron_statistics.mean,
    neuron_statistics.sd,
    neuron_statistics.sd = 0
    or neuron_statistics.distinct_values < dissections.top_k as dead
from dissections
inner join recorded
    on
        dissections.network_id = recorded.network_id
        and dissections.split_id = recorded.split_id
inner join neurons on recorded.layer_id = neurons.layer_id
inner join neuron_statistics
    on
        neurons.neuron_id = neuron_statistics.neuron_id
        and dissections.split_id = neuron_statistics.split_id

-- The neurons that each dissection looks at, and which of them are dead.
-- grain: dissection_id, neuron_id
--
-- A dead neuron is constant over the probing set, or takes fewer different values than the scorer looks at
-- images: its best images would be decided by ties. It is kept, marked, and takes no label.

select
    dissections.dissection_id,
    neurons.neuron_id,
    neurons.layer_id,
    neuron_statistics.mean,
    neuron_statistics.sd,
    neuron_statistics.sd = 0
    or neuron_statistics.distinct_values < dissections.top_k as dead
from dissections
inner join layers on dissections.network_id = layers.network_id
inner join neurons on layers.layer_id = neurons.layer_id
inner join neuron_statistics
    on
        neurons.neuron_id = neuron_statistics.neuron_id
        and dissections.split_id = neuron_statistics.split_id

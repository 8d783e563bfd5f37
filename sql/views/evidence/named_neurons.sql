-- Every neuron with the names that people know it by.
-- grain: neuron_id

select
    neurons.neuron_id,
    layers.network_id,
    layers.layer_id,
    networks.name as network,
    layers.layer,
    layers.position,
    neurons.unit,
    neurons.weight_l1,
    neurons.weight_l2
from neurons
inner join layers on neurons.layer_id = layers.layer_id
inner join networks on layers.network_id = networks.network_id

-- Each neuron with the names of its network and layer.
-- grain: neuron_id

select
    neurons.neuron_id,
    named_layers.network_id,
    named_layers.layer_id,
    networks.name as network,
    named_layers.layer,
    named_layers.position,
    neurons.unit,
    neurons.weight_l1,
    neurons.weight_l2
from neurons
inner join named_layers on neurons.layer_id = named_layers.layer_id
inner join networks on named_layers.network_id = networks.network_id

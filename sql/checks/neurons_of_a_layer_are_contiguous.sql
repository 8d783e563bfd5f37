-- A row is a layer whose neurons are not units 0, 1, 2, … with consecutive ids.

select
    layer_id,
    count(*) as neurons,
    min(unit) as first_unit,
    max(unit) as last_unit,
    min(neuron_id) as first_neuron_id,
    max(neuron_id) as last_neuron_id
from neurons
group by layer_id
having
    min(unit) <> 0
    or max(unit) <> count(*) - 1
    or min(neuron_id - unit) <> max(neuron_id - unit)

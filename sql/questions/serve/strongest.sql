-- Which neurons have the strongest labels? The first twelve in the order of the gallery.
-- grain: layer, unit

select
    neuron_concepts.layer,
    neuron_concepts.unit,
    neuron_concepts.concept,
    neuron_concepts.z,
    neuron_concepts.q,
    neuron_concepts.interpretable
from neuron_order
inner join neuron_concepts
    on neuron_order.layer = neuron_concepts.layer and neuron_order.unit = neuron_concepts.unit
where neuron_concepts.concept is not null
order by neuron_order.place
limit 12

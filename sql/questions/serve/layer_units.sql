-- What are the mean and the spread of each neuron of a layer, and its label?
-- grain: layer, unit
-- parameters: module

select
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    neuron_labels.interpretable,
    neuron_labels.dead,
    neuron_statistics.mean,
    neuron_statistics.sd
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join neuron_labels on dissections.dissection_id = neuron_labels.dissection_id
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
inner join neuron_statistics
    on
        neuron_labels.neuron_id = neuron_statistics.neuron_id
        and dissections.split_id = neuron_statistics.split_id
left join concepts on neuron_labels.concept_id = concepts.concept_id
where named_neurons.layer = $module
order by named_neurons.unit

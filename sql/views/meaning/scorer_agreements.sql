-- The label of each neuron by one scorer beside its label by another, and whether they are the same.
-- grain: neuron_id, dissection_id, other_dissection_id
-- public
--
-- The two dissections differ in the scorer and have the same network, probing images, CLIP and concepts. The scorer
-- whose name comes first in the alphabet stands first. A dead neuron has no row.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    mine.scorer,
    my_concepts.concept,
    others.scorer as other_scorer,
    their_concepts.concept as other_concept,
    my_labels.concept_id = their_labels.concept_id as agree,
    my_labels.neuron_id,
    mine.dissection_id,
    others.dissection_id as other_dissection_id
from dissections as mine
inner join dissections as others
    on
        mine.network_id = others.network_id
        and mine.split_id = others.split_id
        and mine.clip_id = others.clip_id
        and mine.concept_set_id = others.concept_set_id
        and mine.scorer < others.scorer
inner join neuron_labels as my_labels on mine.dissection_id = my_labels.dissection_id
inner join neuron_labels as their_labels
    on
        others.dissection_id = their_labels.dissection_id
        and my_labels.neuron_id = their_labels.neuron_id
inner join concepts as my_concepts on my_labels.concept_id = my_concepts.concept_id
inner join concepts as their_concepts on their_labels.concept_id = their_concepts.concept_id
inner join named_neurons on my_labels.neuron_id = named_neurons.neuron_id

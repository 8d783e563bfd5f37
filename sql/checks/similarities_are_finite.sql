-- A row is a similarity between neuron and concept that is NULL, NaN or infinite: it would win every label.

select dissection_id, neuron_id, concept_id, similarity
from soft_wpmi
where similarity is null or not isfinite(similarity)

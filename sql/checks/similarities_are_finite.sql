-- A row is a score of a neuron and a concept that is NULL, NaN or infinite, and so would win every label, or whose z
-- is.

select dissection_id, neuron_id, concept_id, similarity, z
from concept_scores
where similarity is null or not isfinite(similarity) or not isfinite(z)

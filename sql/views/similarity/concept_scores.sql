-- The score of each neuron and concept in each dissection, computed by the views or by the kernel.
-- grain: dissection_id, neuron_id, concept_id

select dissection_id, neuron_id, concept_id, similarity, z from soft_wpmi
union all
select dissection_id, neuron_id, concept_id, similarity, z from cos
union all
select dissection_id, neuron_id, concept_id, similarity, z from cos_cubed
union all
select dissection_id, neuron_id, concept_id, similarity, z from rank_reorder
union all
select dissection_id, neuron_id, concept_id, similarity, z from pearson
union all
select dissection_id, neuron_id, concept_id, similarity, z from presence
union all
select dissection_id, neuron_id, concept_id, similarity, z from kernel_scores

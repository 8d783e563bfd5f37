-- Behind correct predictions of which classes was one concept active, and how much more often than behind wrong ones?
-- grain: layer, class
-- parameters: concept

select layer, class, images, share, lift, low, high
from concept_counts_by_prediction
where concept = $concept
order by lift desc nulls last, share desc, layer, class
limit 60

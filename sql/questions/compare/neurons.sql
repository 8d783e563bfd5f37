-- Which neurons changed their label from A to B? The 50 with the highest z in A or B.
-- grain: layer, unit
-- parameters: a, b

select
    layer,
    unit,
    concept,
    other_concept,
    z,
    other_z,
    q,
    other_q,
    similarity,
    other_similarity,
    count(*) over () as num_moved
from label_changes
where dissection_id = $a and other_dissection_id = $b and kind = 'moved'
order by greatest(z, other_z) desc nulls last, position, layer, unit
limit 50

-- Which concept of A became which concept of B, in how many labels? The 40 most frequent moves.
-- grain: concept, other_concept
-- parameters: a, b
--
-- share: of all labels that moved. num_moved counts these labels, num_moves the pairs of concepts.

select
    concept,
    other_concept,
    count(*) as neurons,
    count(*) / sum(count(*)) over () as share,
    case
        when count(q) > 0 and count(other_q) > 0 then count(*) filter (where calibrated and other_calibrated)
    end as num_calibrated,
    cast(sum(count(*)) over () as bigint) as num_moved,
    count(*) over () as num_moves
from label_changes
where dissection_id = $a and other_dissection_id = $b and kind = 'moved'
group by concept, other_concept
order by neurons desc, concept, other_concept
limit 40

-- A row is a stored order in which a position is missing or repeated, or a rank_reorder dissection without stored
-- orders.

with

orders as (

    select
        dissection_id,
        permutation,
        count(*) as places,
        count(distinct place) as different_places,
        count(distinct taken) as different_taken,
        least(min(place), min(taken)) as lowest,
        greatest(max(place), max(taken)) as highest
    from rank_permutations
    group by dissection_id, permutation

)

select dissection_id, permutation, places
from orders
where different_places <> places or different_taken <> places or lowest <> 0 or highest <> places - 1
union all
select dissection_id, null as permutation, 0 as places
from dissections
where
    scorer = 'rank_reorder'
    and engine = 'sql'
    and dissection_id not in (select dissection_id from rank_permutations)

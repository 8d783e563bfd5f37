-- Which labels are there, and how many neurons carry each? The first 500 that contain $text.
-- grain: concept
-- parameters: text
-- engine: duckdb
--
-- num_interpretable: NULL if no null was drawn for some of its neurons, so that it is not known.

select
    concept,
    count(*) as neurons,
    case when count(interpretable) = count(*) then count(*) filter (where interpretable) end as num_interpretable,
    count(distinct layer) as layers,
    count(*) over () as found
from neuron_concepts
where concept is not null and ($text is null or contains(lower(concept), lower($text)))
group by concept
order by num_interpretable desc nulls last, neurons desc, concept
limit 500

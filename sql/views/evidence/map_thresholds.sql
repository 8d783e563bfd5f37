-- The value that one cell in a hundred of a neuron's activation maps exceeds, over the images of a split.
-- grain: split_id, neuron_id
-- materialized: table
--
-- It is estimated from a sample of cells of all images: the value in the place sampled / 100, rounded up, of the sample
-- in descending order. map_values holds the highest of each block, and so all values down to that place.

with

block_samples as (

    select
        split_id,
        neuron_id,
        block,
        max(sampled) as sampled
    from map_values
    group by split_id, neuron_id, block

),

samples as (

    select
        split_id,
        neuron_id,
        nd_total(sampled) as sampled
    from block_samples
    group by split_id, neuron_id

),

ranked as (

    select
        split_id,
        neuron_id,
        value,
        row_number() over (partition by split_id, neuron_id order by value desc) as place
    from map_values

)

select
    ranked.split_id,
    ranked.neuron_id,
    samples.sampled,
    ranked.value as threshold
from ranked
inner join samples
    on
        ranked.split_id = samples.split_id
        and ranked.neuron_id = samples.neuron_id
where
    100 * ranked.place >= samples.sampled
    and 100 * (ranked.place - 1) < samples.sampled

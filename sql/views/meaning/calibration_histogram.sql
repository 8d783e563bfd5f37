-- How the z of a layer's labels is distributed, beside the distribution that chance alone would give.
-- grain: network, layer, low, dissection_id
-- public
--
-- Forty bars of equal width cover the z of the whole dissection. Each layer has all of them, also the empty ones.
-- expected: how many of as many neurons that are unrelated to the images would lie in this bar, by null_quantiles. A
-- layer without a null has no rows.

with

labelled as (

    select
        named_neurons.network,
        named_neurons.layer,
        named_neurons.layer_id,
        named_neurons.position,
        neuron_labels.null_group,
        neuron_labels.z,
        neuron_labels.dissection_id
    from shown_dissection
    inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    where neuron_labels.z is not null

),

ranges as (

    select
        dissection_id,
        min(z) as lowest,
        greatest((max(z) - min(z)) / 40, 1e-9) as width
    from labelled
    group by dissection_id

),

with_null as (

    select distinct dissection_id, layer_id, null_group
    from null_quantiles

),

layer_totals as (

    select
        labelled.network,
        labelled.layer,
        labelled.layer_id,
        labelled.position,
        labelled.null_group,
        labelled.dissection_id,
        count(*) as neurons
    from labelled
    inner join with_null
        on
            labelled.dissection_id = with_null.dissection_id
            and labelled.layer_id = with_null.layer_id
            and labelled.null_group = with_null.null_group
    group by
        labelled.network,
        labelled.layer,
        labelled.layer_id,
        labelled.position,
        labelled.null_group,
        labelled.dissection_id

),

tens as (

    select 0 as ten
    union all
    select 1 as ten
    union all
    select 2 as ten
    union all
    select 3 as ten

),

digits as (

    select 0 as digit
    union all
    select 1 as digit
    union all
    select 2 as digit
    union all
    select 3 as digit
    union all
    select 4 as digit
    union all
    select 5 as digit
    union all
    select 6 as digit
    union all
    select 7 as digit
    union all
    select 8 as digit
    union all
    select 9 as digit

),

bars as (

    select
        layer_totals.network,
        layer_totals.layer,
        layer_totals.layer_id,
        layer_totals.position,
        layer_totals.null_group,
        layer_totals.neurons as with_this_null,
        layer_totals.dissection_id,
        10 * tens.ten + digits.digit as bar,
        ranges.lowest + (10 * tens.ten + digits.digit) * ranges.width as low,
        ranges.lowest + (10 * tens.ten + digits.digit + 1) * ranges.width as high
    from layer_totals
    inner join ranges on layer_totals.dissection_id = ranges.dissection_id
    cross join tens
    cross join digits

),

placed as (

    select
        labelled.layer_id,
        least(floor((labelled.z - ranges.lowest) / ranges.width), 39) as bar,
        count(*) as neurons
    from labelled
    inner join ranges on labelled.dissection_id = ranges.dissection_id
    group by labelled.layer_id, least(floor((labelled.z - ranges.lowest) / ranges.width), 39)

),

-- How often chance reaches the lower end of a bar: p of the largest step that is not above this end, as for a label.
reached as (

    select
        bars.layer_id,
        bars.null_group,
        bars.bar,
        min(null_quantiles.p) as p
    from bars
    inner join null_quantiles
        on
            bars.dissection_id = null_quantiles.dissection_id
            and bars.layer_id = null_quantiles.layer_id
            and bars.null_group = null_quantiles.null_group
            and bars.low >= null_quantiles.z
    group by bars.layer_id, bars.null_group, bars.bar

)

select
    bars.network,
    bars.layer,
    bars.low,
    bars.high,
    coalesce(max(placed.neurons), 0) as neurons,
    sum(
        bars.with_this_null * (
            case when bars.bar = 0 then 1 else coalesce(reached.p, 1) end
            - case when bars.bar = 39 then 0 else coalesce(above.p, 1) end
        )
    ) as expected,
    bars.position,
    bars.dissection_id
from bars
left join placed
    on
        bars.layer_id = placed.layer_id
        and bars.bar = placed.bar
left join reached
    on
        bars.layer_id = reached.layer_id
        and bars.null_group = reached.null_group
        and bars.bar = reached.bar
left join reached as above
    on
        bars.layer_id = above.layer_id
        and bars.null_group = above.null_group
        and bars.bar + 1 = above.bar
group by bars.network, bars.layer, bars.low, bars.high, bars.position, bars.dissection_id

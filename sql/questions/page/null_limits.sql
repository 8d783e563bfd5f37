-- Which z do 50 %, 5 % and 1 % of the labels of unrelated neurons reach in each layer?
-- grain: layer
--
-- From the quantiles of the null, for the neurons with the longest lists of images.

with

longest as (

    select dissection_id, layer_id, max(null_group) as null_group
    from null_quantiles
    group by dissection_id, layer_id

)

select
    named_layers.layer,
    min(null_quantiles.z) filter (where null_quantiles.p <= cast(0.5 as double)) as median,
    min(null_quantiles.z) filter (where null_quantiles.p <= cast(0.05 as double)) as z_05,
    min(null_quantiles.z) filter (where null_quantiles.p <= cast(0.01 as double)) as z_01
from null_quantiles
inner join shown_dissection on null_quantiles.dissection_id = shown_dissection.dissection_id
inner join named_layers on null_quantiles.layer_id = named_layers.layer_id
inner join longest
    on
        null_quantiles.dissection_id = longest.dissection_id
        and null_quantiles.layer_id = longest.layer_id
        and null_quantiles.null_group = longest.null_group
group by named_layers.layer
order by named_layers.layer

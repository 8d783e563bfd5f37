-- A row is a step of a null distribution whose p is not a probability above 0, or is not smaller at a higher z.

with

steps as (

    select
        dissection_id,
        layer_id,
        null_group,
        z,
        p,
        lag(p) over (partition by dissection_id, layer_id, null_group order by z) as previous_p,
        lag(z) over (partition by dissection_id, layer_id, null_group order by z) as previous_z
    from null_quantiles

)

select dissection_id, layer_id, null_group, z, p
from steps
where not isfinite(z) or not isfinite(p) or p <= 0 or p > 1 or p > previous_p or z = previous_z

-- How many neurons of each layer does the shown edit scale up, scale down and silence?
-- grain: layer

select
    weight_scales.layer,
    count(*) as neurons,
    count(*) filter (where weight_scales.scale > 1) as up,
    count(*) filter (where weight_scales.scale < 1) as down,
    count(*) filter (where weight_scales.scale = 0) as silenced,
    min(weight_scales.scale) as lowest,
    max(weight_scales.scale) as highest
from weight_scales
inner join latest_edits on weight_scales.edit_id = latest_edits.edit_id
inner join shown_dissection on latest_edits.dissection_id = shown_dissection.dissection_id
group by weight_scales.layer
order by weight_scales.layer

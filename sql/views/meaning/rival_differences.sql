-- By how much the labels of a method describe the neurons of a layer better than those of another, by a measure.
-- grain: rival_id, other_rival_id, layer, reference, measure
-- public
--
-- Every network, set of images and CLIP that was judged is here, whichever dissection the other views show.
--
-- Paired: the mean over the neurons that both label, with a 95 % interval of a bootstrap over these neurons. beyond: the
-- interval leaves out 0. Methods are compared with each other, and each with its own controls.
-- reference: clip and class as in rival_scores; output: whether labels are the names of outputs, and their similarity.

with

both_ways as (

    select rival_id, other_rival_id, layer_id, reference, measure, neurons, value, low, high
    from rival_intervals
    where other_rival_id is not null
    union all
    select
        other_rival_id as rival_id,
        rival_id as other_rival_id,
        layer_id,
        reference,
        measure,
        neurons,
        -value as value,
        -high as low,
        -low as high
    from rival_intervals
    where other_rival_id is not null

)

select
    mine.network,
    named_layers.layer,
    both_ways.reference,
    both_ways.measure,
    mine.method,
    mine.control,
    others.method as other_method,
    others.control as other_control,
    both_ways.neurons,
    both_ways.value as difference,
    both_ways.low,
    both_ways.high,
    both_ways.low > 0 or both_ways.high < 0 as beyond,
    mine.clip,
    mine.dataset,
    mine.split,
    named_layers.position,
    both_ways.rival_id,
    both_ways.other_rival_id,
    mine.dissection_id
from both_ways
inner join named_rivals as mine on both_ways.rival_id = mine.rival_id
inner join named_rivals as others on both_ways.other_rival_id = others.rival_id
inner join named_layers on both_ways.layer_id = named_layers.layer_id

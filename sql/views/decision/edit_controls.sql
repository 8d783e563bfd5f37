-- Where an edit lies among its controls, which do as much to the layer without its labels.
-- grain: edit_id, split_id, control
-- public
--
-- control: all (every neuron by the factor), random (the same scales on other neurons), matched (on neurons of about
-- the same weight norm), shuffled (the same rule on labels of shuffled images), bias (biases scaled instead).
-- percentile: share of the draws that the edit beats, ties counting half; p: how often one at least as good would come
-- by chance, (1 + as many as did) / (1 + draws).

select
    edit_id,
    split,
    control,
    count(*) as draws,
    max(difference_of_edit) as difference,
    min(difference) as lowest,
    avg(difference) as mean,
    max(difference) as highest,
    avg(
        case
            when difference < difference_of_edit then cast(1 as double)
            when difference = difference_of_edit then cast(0.5 as double)
            else 0
        end
    ) as percentile,
    (1 + count(*) filter (where difference >= difference_of_edit)) / (1 + count(*)) as p,
    split_id,
    dissection_id
from edit_control_draws
group by edit_id, split, control, split_id, dissection_id

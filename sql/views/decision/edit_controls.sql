-- How an edit compares with its controls, which change the layer as much without using its labels.
-- grain: edit_id, split_id, control
-- public
--
-- control: all (every neuron scaled by the factor), random (the same scales on other neurons), matched (on neurons of
-- about the same weight norm), shuffled (the same rule with labels from shuffled images), bias (biases scaled instead
-- of weights).
-- percentile: the share of the draws that the edit beats; a tie counts half. p: how often a draw is at least as good
-- by chance, (1 + number that are) / (1 + draws). Both are NULL if every draw is the edit itself, for example random
-- neurons of an edit that scales all neurons alike: then there is nothing to compare.

with

counted as (

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
        count(*) filter (where not is_edit) > 0 as compares,
        split_id,
        dissection_id
    from edit_control_draws
    group by edit_id, split, control, split_id, dissection_id

)

select
    edit_id,
    split,
    control,
    draws,
    difference,
    lowest,
    mean,
    highest,
    case when compares then percentile end as percentile,
    case when compares then p end as p,
    split_id,
    dissection_id
from counted

-- The measures that stand for each judged label where one row per neuron is shown.
-- grain: dissection_id, neuron_id
--
-- By the true class if the label was judged by it, else by another CLIP, else by the dissection's; on a split of its own
-- if there is one, else on halves.

select
    dissection_id,
    neuron_id,
    concept_id,
    reference,
    pearson,
    ap_corrected,
    ap_corrected_low,
    ap_corrected_high
from label_measures
where ap_corrected is not null
qualify
    row_number() over (
        partition by dissection_id, neuron_id
        order by
            case reference when 'class' then 0 when 'other clip' then 1 else 2 end,
            case when judged_on = 'halves' then 1 else 0 end,
            judged_on
    ) = 1

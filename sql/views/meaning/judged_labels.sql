-- The measures that stand for each judged label where one row per neuron is shown.
-- grain: dissection_id, neuron_id
--
-- By the true class if the label was judged by it, else by CLIP; on a split of its own if there is one, else on halves.

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
            case when reference = 'class' then 0 else 1 end,
            case when judged_on = 'halves' then 1 else 0 end,
            judged_on
    ) = 1

-- How many neurons have the same label in two dissections over all layers, and how many would by chance.
-- grain: dissection_id, other_dissection_id
--
-- Sums of layer_changes. chance_sd: layers are shuffled independently, so their variances add up.
-- num_same_label, share_same: NULL if no label can be compared.

select
    nd_total(neurons) as neurons,
    nd_total(num_labelled) as num_labelled,
    nd_total(num_same_label) as num_same_label,
    sum(num_same_label) / nullif(sum(num_labelled), 0) as share_same,
    sum(same_by_chance) as same_by_chance,
    sqrt(sum(chance_sd * chance_sd)) as chance_sd,
    count(share_calibrated) > 0 as is_tested,
    count(other_share_calibrated) > 0 as is_other_tested,
    coalesce(nd_total(num_calibrated), 0) as num_calibrated,
    coalesce(nd_total(other_num_calibrated), 0) as other_num_calibrated,
    coalesce(nd_total(num_calibrated_in_both), 0) as num_calibrated_in_both,
    nd_total(num_calibrated_same) as num_calibrated_same,
    other_dissection_id,
    dissection_id
from layer_changes
group by dissection_id, other_dissection_id

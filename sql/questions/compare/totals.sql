-- How many neurons keep their label from A to B, over all layers, and how many would do so by chance?
-- grain: dissection_id, other_dissection_id
-- parameters: a, b
--
-- If no neuron is in both dissections, there is one row, and neurons is 0.

select
    coalesce(dissection_changes.neurons, 0) as neurons,
    coalesce(dissection_changes.num_labelled, 0) as num_labelled,
    dissection_changes.num_same_label,
    dissection_changes.share_same,
    dissection_changes.same_by_chance,
    dissection_changes.chance_sd,
    coalesce(dissection_changes.is_tested, false) as is_tested,
    coalesce(dissection_changes.is_other_tested, false) as is_other_tested,
    coalesce(dissection_changes.num_calibrated, 0) as num_calibrated,
    coalesce(dissection_changes.other_num_calibrated, 0) as other_num_calibrated,
    coalesce(dissection_changes.num_calibrated_in_both, 0) as num_calibrated_in_both,
    dissection_changes.num_calibrated_same,
    of_b.dissection_id as other_dissection_id,
    of_a.dissection_id
from dissections as of_a
cross join dissections as of_b
left join dissection_changes
    on
        dissection_changes.dissection_id = $a
        and dissection_changes.other_dissection_id = $b
where of_a.dissection_id = $a and of_b.dissection_id = $b

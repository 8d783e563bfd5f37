-- What did an edit do on each split, and is that more than chance?
-- grain: split
-- parameters: edit_id

select
    split, images, correct_before, correct_after, gained, lost, low, high, loss_before, loss_after, ece_before,
    ece_after, p_mcnemar, percentile, p_corrected, edits_tried, detectable, verdict, is_probing_set
from edit_results
where edit_id = $edit_id
order by split_id

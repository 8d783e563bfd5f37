-- What did an edit do on each split, and is that more than chance?
-- grain: split
-- parameters: edit_id

select
    split, images, correct_before, correct_after, gained, lost, p_mcnemar, percentile, low, high, p_corrected,
    detectable, loss_before, loss_after, ece_before, ece_after, edits_tried, verdict, is_probing_set
from edit_results
where edit_id = $edit_id
order by split_id

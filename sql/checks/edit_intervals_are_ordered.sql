-- A row is an interval whose end is before its start, that is outside the possible changes of accuracy, that is not a
-- number, or that has one end only.

select edit_id, split_id, low, high, loss_low, loss_high
from edit_intervals
where
    not isfinite(low)
    or not isfinite(high)
    or low > high
    or low < -1
    or high > 1
    or (loss_low is null) <> (loss_high is null)
    or not isfinite(loss_low)
    or not isfinite(loss_high)
    or loss_low > loss_high

-- A row is an interval whose end lies before its start, beyond what accuracy can change by, or is not a number; or an
-- interval of losses with one end only.

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

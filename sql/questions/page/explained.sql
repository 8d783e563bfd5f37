-- How much of each layer do words explain, in the trained network and in its controls?
-- grain: layer, control
--
-- At most 3,000 rows: 1,000 layers of three networks.

select
    control_summary.layer,
    control_summary.control,
    control_summary.neurons,
    control_summary.share_calibrated,
    control_summary.explained,
    control_summary.explained_by_others,
    control_summary.explainable,
    control_summary.share_unexplained,
    control_summary.position
from control_summary
order by
    control_summary.position,
    control_summary.layer,
    case when control_summary.control = 'trained' then 1 else 2 end,
    control_summary.control desc
limit 3000

-- How many neurons of each layer are interpretable, and how often is their label right?
-- grain: layer

select
    layer, neurons, num_interpretable, num_above_tau, num_calibrated, overall_accuracy,
    interpretable_accuracy, uninterpretable_accuracy, num_dead, num_sparse, num_tied
from layer_summary
order by position

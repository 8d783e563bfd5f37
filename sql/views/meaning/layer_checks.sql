-- How many labels of each layer are unlikely by chance, and how many of those pass the other tests.
-- grain: network, layer, dissection_id
--
-- Counts and shares are NULL if the test was not run in the layer. num_unclassed: calibrated labels that could not be
-- tested within classes, for whatever reason; num_outstanding: those whose test an earlier version did not have, and if
-- there is one, num_robust is NULL. bootstrap_share: the mean over the calibrated labels. num_robust: labels that pass every test
-- that was run (label_tests).
-- share_above_tau, share_calibrated: the share of neurons that are interpretable by the rule tau and by the rule q.

with

counted as (

    select
        network,
        layer,
        count(p) > 0 as is_tested,
        count(halves_agree) > 0 as is_halved,
        count(beats_classes) > 0 as is_classed,
        count(*) filter (where beats_chance and halves_agree) as num_agreeing,
        count(*) filter (where beats_chance and beats_classes) as num_within_class,
        count(*) filter (where beats_chance and beats_classes is null) as num_unclassed,
        avg(bootstrap_share) filter (where beats_chance) as bootstrap_share,
        count(*) filter (where beats_chance and is_outstanding) as num_outstanding,
        count(*) filter (where robust) as num_robust,
        dissection_id
    from label_tests
    group by network, layer, dissection_id

)

select
    layer_summary.network,
    layer_summary.layer,
    layer_summary.neurons,
    layer_summary.num_above_tau,
    layer_summary.num_above_tau / layer_summary.neurons as share_above_tau,
    case when counted.is_tested then layer_summary.num_calibrated end as num_calibrated,
    case when counted.is_tested then layer_summary.num_calibrated / layer_summary.neurons end as share_calibrated,
    case when counted.is_halved then counted.num_agreeing end as num_agreeing,
    case when counted.is_classed then counted.num_within_class end as num_within_class,
    case when counted.is_classed then counted.num_unclassed end as num_unclassed,
    counted.bootstrap_share,
    counted.num_outstanding,
    case when (counted.is_halved or counted.is_classed) and counted.num_outstanding = 0 then counted.num_robust end
        as num_robust,
    case
        when (counted.is_halved or counted.is_classed) and counted.num_outstanding = 0
            then counted.num_robust / layer_summary.neurons
    end as share_robust,
    layer_summary.position,
    layer_summary.dissection_id
from layer_summary
inner join counted
    on
        layer_summary.network = counted.network
        and layer_summary.layer = counted.layer
        and layer_summary.dissection_id = counted.dissection_id

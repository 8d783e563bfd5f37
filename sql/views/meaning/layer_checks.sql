-- How many labels of each layer are unlikely by chance, and how many of those pass the other tests.
-- grain: network, layer, dissection_id
--
-- num_halved, num_classed: the calibrated labels that could be tested on halves and within classes; num_tested: by
-- either. num_agreeing, num_within_class, num_robust: those that pass; NULL where none could be tested, because that
-- none passes would then be false. num_robust: they pass every test that was run (label_tests). num_outstanding: those
-- whose test within classes an earlier version did not have; if there is one, num_robust is NULL.
-- bootstrap_share: the mean over the calibrated labels. share_robust: of those tested.
-- share_above_tau, share_calibrated: the share of neurons that are interpretable by the rule tau and by the rule q.

with

counted as (

    select
        network,
        layer,
        count(p) > 0 as is_tested,
        count(halves_agree) filter (where beats_chance) as num_halved,
        count(beats_classes) filter (where beats_chance) as num_classed,
        count(coalesce(halves_agree, beats_classes)) filter (where beats_chance) as num_tested,
        count(*) filter (where beats_chance and halves_agree) as num_agreeing,
        count(*) filter (where beats_chance and beats_classes) as num_within_class,
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
    counted.num_halved,
    case when counted.num_halved > 0 then counted.num_agreeing end as num_agreeing,
    counted.num_classed,
    case when counted.num_classed > 0 then counted.num_within_class end as num_within_class,
    counted.bootstrap_share,
    counted.num_outstanding,
    counted.num_tested,
    case when counted.num_tested > 0 and counted.num_outstanding = 0 then counted.num_robust end as num_robust,
    case
        when counted.num_tested > 0 and counted.num_outstanding = 0 then counted.num_robust / counted.num_tested
    end as share_robust,
    layer_summary.position,
    layer_summary.dissection_id
from layer_summary
inner join counted
    on
        layer_summary.network = counted.network
        and layer_summary.layer = counted.layer
        and layer_summary.dissection_id = counted.dissection_id

-- The labels that survive every test: of their layer's noise, of the images' classes, and of which images there were.
-- grain: network, layer, unit, dissection_id
--
-- calibrated: the false-discovery share is within the dissection's limit. z_within_class above 1.645: one in twenty
-- unrelated neurons would reach it. Where images have no classes, that test is not asked for.

select
    network,
    layer,
    unit,
    concept,
    similarity,
    z,
    p,
    q,
    z_within_class,
    bootstrap_share,
    dissection_id
from neuron_concepts
where
    calibrated
    and split_half_agrees
    and coalesce(z_within_class > cast(1.645 as double), true)

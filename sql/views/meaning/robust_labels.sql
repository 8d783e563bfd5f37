-- The labels that pass every test that was run: chance, and one or both of split halves and classes; tests names them.
-- grain: network, layer, unit, dissection_id
--
-- q: the false-discovery share is within the dissection's limit. split_half: the even and the odd images give the same
-- label. within_class: z_within_class above 1.645, which one in twenty unrelated neurons would reach; it cannot be tested
-- where images have no classes. A label that was held against chance alone is calibrated, and not robust.

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
    'q'
    || case when split_half_agrees is null then '' else ', split_half' end
    || case when z_within_class is null then '' else ', within_class' end as tests,
    dissection_id
from neuron_concepts
where
    calibrated
    and coalesce(split_half_agrees, true)
    and coalesce(z_within_class > cast(1.645 as double), true)
    and (split_half_agrees is not null or z_within_class is not null)

-- Which of the tests chance, split halves and classes each label passes; NULL if a test was not run.
-- grain: network, layer, unit, dissection_id
--
-- beats_chance: q is within the dissection's limit. halves_agree: the even and the odd images give the same label.
-- beats_classes: z_within_class is above 1.645, which one in twenty unrelated neurons would reach; it cannot be tested
-- if images have no classes.
-- robust: the label beats chance and passes every other test that was run, and at least one other test was run.

with

tested as (

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
        coalesce(calibrated, false) as is_calibrated,
        split_half_agrees as halves_agree,
        z_within_class > cast(1.645 as double) as beats_classes,
        dissection_id
    from neuron_concepts

)

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
    case when p is not null then is_calibrated end as beats_chance,
    halves_agree,
    beats_classes,
    is_calibrated
    and coalesce(halves_agree, true)
    and coalesce(beats_classes, true)
    and (halves_agree is not null or beats_classes is not null) as robust,
    dissection_id
from tested

-- Which of the tests chance, split halves and classes each label passes; NULL if a test was not run.
-- grain: network, layer, unit, dissection_id
--
-- beats_chance: q is within the dissection's limit. halves_agree: both halves of the images give the same label.
-- beats_classes: q_within is within that limit too; it cannot be tested if images have no classes.
-- robust: the label beats chance and passes every other test that was run, and at least one other test was run. NULL if
-- the test within classes is outstanding: an earlier version computed z_within_class in this layer without p_within.

with

tested as (

    select
        neuron_concepts.network,
        neuron_concepts.layer,
        neuron_concepts.unit,
        neuron_concepts.concept,
        neuron_concepts.similarity,
        neuron_concepts.z,
        neuron_concepts.p,
        neuron_concepts.q,
        neuron_concepts.z_within_class,
        neuron_concepts.p_within,
        neuron_concepts.q_within,
        neuron_concepts.bootstrap_share,
        coalesce(neuron_concepts.calibrated, false) as is_calibrated,
        neuron_concepts.split_half_agrees as halves_agree,
        neuron_concepts.q_within <= dissections.q_limit as beats_classes,
        neuron_concepts.p_within is null
        and max(
            case when neuron_concepts.z_within_class is not null and neuron_concepts.p_within is null then 1 else 0 end
        ) over (partition by neuron_concepts.dissection_id, neuron_concepts.network, neuron_concepts.layer)
        = 1 as is_outstanding,
        neuron_concepts.dissection_id
    from neuron_concepts
    inner join dissections on neuron_concepts.dissection_id = dissections.dissection_id

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
    p_within,
    q_within,
    bootstrap_share,
    case when p is not null then is_calibrated end as beats_chance,
    halves_agree,
    beats_classes,
    case
        when not is_outstanding then
            is_calibrated
            and coalesce(halves_agree, true)
            and coalesce(beats_classes, true)
            and (halves_agree is not null or beats_classes is not null)
    end as robust,
    is_outstanding,
    dissection_id
from tested

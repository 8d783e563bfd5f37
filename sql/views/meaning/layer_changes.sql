-- How many neurons of a layer have the same label in two dissections, and how many would by chance.
-- grain: dissection_id, other_dissection_id, layer
-- public
--
-- Only neurons that are in both dissections count. num_labelled: those with labels in both that can be compared.
-- Shares of equal labels are of these, and NULL if there are none, as between concept sets that share no concept.
-- same_by_chance: how many labels would be equal on average if the other dissection's labels were shuffled among these
-- neurons. chance_sd: the standard deviation of that number over all orders, exact.
-- kappa: the share of what chance leaves open that is equal; 1 means all, 0 as many as by chance (Cohen 1960).
-- Counts and shares of calibrated neurons are NULL if the labels were not compared with chance.

with

labels as (

    select dissection_id, other_dissection_id, layer, concept, 1 as mine, 0 as theirs
    from label_changes
    where same is not null
    union all
    select dissection_id, other_dissection_id, layer, other_concept as concept, 0 as mine, 1 as theirs
    from label_changes
    where same is not null

),

frequencies as (

    select
        dissection_id,
        other_dissection_id,
        layer,
        cast(sum(mine) as double) as mine,
        cast(sum(theirs) as double) as theirs
    from labels
    group by dissection_id, other_dissection_id, layer, concept

),

chances as (

    select
        dissection_id,
        other_dissection_id,
        layer,
        sum(mine) as neurons,
        sum(mine * theirs) as pairs,
        sum(mine * theirs * (mine + theirs)) as triples
    from frequencies
    group by dissection_id, other_dissection_id, layer

),

matched as (

    select
        layer,
        position,
        count(*) as neurons,
        count(same) as num_labelled,
        case when not max(kind = 'unknown') then count(*) filter (where same) end as num_same_label,
        count(*) filter (where kind = 'vanished') as num_vanished,
        count(*) filter (where kind = 'appeared') as num_appeared,
        count(q) > 0 as is_tested,
        count(other_q) > 0 as is_other_tested,
        case when count(calibrated) = count(*) then count(*) filter (where calibrated) end as num_calibrated,
        case when count(other_calibrated) = count(*) then count(*) filter (where other_calibrated) end
            as other_num_calibrated,
        count(*) filter (where calibrated and other_calibrated) as num_calibrated_in_both,
        case
            when not max(kind = 'unknown') then count(*) filter (where calibrated and other_calibrated and same)
        end as num_calibrated_same,
        case when count(interpretable) = count(*) then count(*) filter (where interpretable) end as num_interpretable,
        case when count(other_interpretable) = count(*) then count(*) filter (where other_interpretable) end
            as other_num_interpretable,
        other_dissection_id,
        dissection_id
    from label_changes
    group by layer, position, other_dissection_id, dissection_id

)

select
    matched.layer,
    matched.neurons,
    matched.num_labelled,
    matched.num_same_label,
    matched.num_same_label / nullif(matched.num_labelled, 0) as share_same,
    chances.pairs / chances.neurons as same_by_chance,
    case
        when chances.neurons > 1
            then
                sqrt(
                    greatest(
                        chances.pairs * chances.pairs - chances.neurons * chances.triples
                        + chances.neurons * chances.neurons * chances.pairs,
                        0
                    )
                    / (chances.neurons - 1)
                )
                / chances.neurons
        when chances.neurons = 1 then 0
    end as chance_sd,
    (matched.num_same_label - chances.pairs / chances.neurons)
    / nullif(chances.neurons - chances.pairs / chances.neurons, 0) as kappa,
    matched.num_vanished,
    matched.num_appeared,
    matched.num_calibrated,
    matched.other_num_calibrated,
    case when matched.is_tested then matched.num_calibrated / matched.neurons end as share_calibrated,
    case when matched.is_other_tested then matched.other_num_calibrated / matched.neurons end as other_share_calibrated,
    case when matched.is_tested and matched.is_other_tested then matched.num_calibrated_in_both end
        as num_calibrated_in_both,
    case when matched.is_tested and matched.is_other_tested then matched.num_calibrated_same end
        as num_calibrated_same,
    matched.num_interpretable,
    matched.other_num_interpretable,
    matched.position,
    matched.other_dissection_id,
    matched.dissection_id
from matched
left join chances
    on
        matched.dissection_id = chances.dissection_id
        and matched.other_dissection_id = chances.other_dissection_id
        and matched.layer = chances.layer

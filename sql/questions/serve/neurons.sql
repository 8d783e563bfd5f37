-- Which neurons meet the filter, in the order that was asked for? One page of them.
-- grain: layer, unit
-- parameters: module, concept, text, state, most_q, sort, falls, first, size
-- engine: duckdb
--
-- $module is a layer, $concept a label; NULL: any. $text words that all occur in layer, unit, label or runner-up; NULL: any. $state: any, believed,
-- robust, unsure, unlabelled or dead. found: the neurons that meet the filter.

with

met as (

    -- Only what the order needs: counting and sorting would carry every column along.
    select
        neuron_concepts.layer,
        neuron_concepts.unit,
        neuron_order.place,
        robust_labels.layer is not null as robust,
        case $sort
            when 'similarity' then neuron_concepts.similarity
            when 'z' then neuron_concepts.z
            when 'q' then neuron_concepts.q
            when 'margin' then neuron_concepts.margin
            when 'quality' then neuron_concepts.judged_ap
            when 'unit' then neuron_concepts.unit
        end as number_key,
        case $sort when 'concept' then lower(neuron_concepts.concept) when 'layer' then neuron_concepts.layer end as text_key
    from neuron_concepts
    inner join neuron_order
        on neuron_concepts.layer = neuron_order.layer and neuron_concepts.unit = neuron_order.unit
    left join robust_labels
        on neuron_concepts.layer = robust_labels.layer and neuron_concepts.unit = robust_labels.unit
    where
        neuron_concepts.layer = coalesce($module, neuron_concepts.layer)
        and ($concept is null or neuron_concepts.concept = $concept)
        and (
            $text is null
            or list_bool_and(
                list_transform(
                    string_split(lower($text), ' '),
                    lambda word: contains(
                        lower(
                            neuron_concepts.layer || ' ' || neuron_concepts.unit || ' '
                            || coalesce(neuron_concepts.concept, '') || ' ' || coalesce(neuron_concepts.runner_up, '')
                        ),
                        word
                    )
                )
            )
        )
        and ($most_q is null or neuron_concepts.q <= $most_q)
        and case $state
            when 'believed' then neuron_concepts.interpretable
            when 'robust' then robust_labels.layer is not null
            when 'unsure' then neuron_concepts.concept is not null and not neuron_concepts.interpretable
            when 'unlabelled' then neuron_concepts.concept is null
            when 'dead' then neuron_concepts.dead
            else true
        end

),

page as (

    select *, count(*) over () as found
    from met
    order by
        case when $falls then -number_key else number_key end nulls last,
        case when not $falls then text_key end nulls last,
        case when $falls then text_key end desc nulls last,
        place
    limit $size offset $first

)

select
    page.layer,
    page.unit,
    neuron_concepts.concept,
    neuron_concepts.runner_up,
    neuron_concepts.similarity,
    neuron_concepts.margin,
    neuron_concepts.z,
    neuron_concepts.q,
    neuron_concepts.interpretable,
    neuron_concepts.calibrated,
    page.robust,
    neuron_concepts.dead,
    neuron_concepts.sparse,
    neuron_concepts.tied,
    neuron_concepts.judged_by,
    neuron_concepts.judged_ap,
    page.found,
    neuron_words.words
from page
inner join neuron_concepts on page.layer = neuron_concepts.layer and page.unit = neuron_concepts.unit
left join neuron_words on page.layer = neuron_words.layer and page.unit = neuron_words.unit
order by
    case when $falls then -page.number_key else page.number_key end nulls last,
    case when not $falls then page.text_key end nulls last,
    case when $falls then page.text_key end desc nulls last,
    page.place

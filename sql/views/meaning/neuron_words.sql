-- What explains each labelled neuron: one concept, several together, or none of the list.
-- grain: network, layer, unit, dissection_id
-- public
--
-- words: the label, and up to two concepts that explain more together with it, as in "Smile + Wide Open Mouth". The
-- first half of the images chooses them; each must raise the correlation on the second beyond its 95 % interval (gain).
-- NULL if no concept of the list explains the neuron (reach); neuron_concepts has the label that it got all the same.
-- explained: correlation, on the second half, of the neuron with the concept that is best on the first.
-- explainable: the same for CLIP's whole embedding.
-- reach: one concept; several concepts; no concept of this list: the best one explains less than a tenth of the
-- variance (the square of the correlation) that CLIP's embedding explains, or nothing; nothing that CLIP sees: neither explains anything.
-- A neuron has no row if it has no label, if its activations were not stored, or if there are too many concepts.

with

counted as (

    select
        dissection_id,
        neuron_id,
        count(*) as words,
        max(concept_id) filter (where place = 1) as first_id,
        max(concept_id) filter (where place = 2) as second_id,
        max(concept_id) filter (where place = 3) as third_id,
        max(weight) filter (where place = 1) as first_weight,
        max(weight) filter (where place = 2) as second_weight,
        max(weight) filter (where place = 3) as third_weight,
        sum(gain) as gain
    from label_words
    group by dissection_id, neuron_id

),

reached as (

    select
        counted.dissection_id,
        counted.neuron_id,
        case
            when label_reach.explained is null then null
            when label_reach.explained_low <= 0 and label_reach.explainable_low <= 0 then 'nothing that CLIP sees'
            when
                label_reach.explained_low <= 0
                or 10 * label_reach.explained * label_reach.explained
                < label_reach.explainable * label_reach.explainable
                then 'no concept of this list'
            when counted.words > 1 then 'several concepts'
            else 'one concept'
        end as reach
    from counted
    left join label_reach
        on
            counted.dissection_id = label_reach.dissection_id
            and counted.neuron_id = label_reach.neuron_id

)

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    case
        when coalesce(reached.reach, '') not in ('no concept of this list', 'nothing that CLIP sees')
            then
                first_words.concept
                || coalesce(' + ' || second_words.concept, '')
                || coalesce(' + ' || third_words.concept, '')
    end as words,
    counted.words as num_words,
    counted.first_weight,
    counted.second_weight,
    counted.third_weight,
    counted.gain,
    label_reach.explained,
    label_reach.explained_low,
    label_reach.explained_high,
    label_reach.explainable,
    label_reach.explainable_low,
    label_reach.explainable_high,
    reached.reach,
    counted.dissection_id
from shown_dissection
inner join counted on shown_dissection.dissection_id = counted.dissection_id
inner join reached on counted.dissection_id = reached.dissection_id and counted.neuron_id = reached.neuron_id
inner join named_neurons on counted.neuron_id = named_neurons.neuron_id
inner join concepts as first_words on counted.first_id = first_words.concept_id
left join concepts as second_words on counted.second_id = second_words.concept_id
left join concepts as third_words on counted.third_id = third_words.concept_id
left join label_reach
    on
        counted.dissection_id = label_reach.dissection_id
        and counted.neuron_id = label_reach.neuron_id

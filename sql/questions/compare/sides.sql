-- What are the two dissections, A and B, and what were they made from? One row if they are the same.
-- grain: side
-- parameters: a, b
--
-- origin_id: the network that this one was made from by edits, or itself. Neurons of A and B are compared by unit only
-- if both have the same origin_id. concepts_in_common: the number of texts that both concept sets hold.

with

shared_concepts as (

    select concepts.concept
    from concepts
    inner join dissections on concepts.concept_set_id = dissections.concept_set_id
    where dissections.dissection_id in ($a, $b)
    group by concepts.concept
    having count(distinct dissections.dissection_id) = 2

),

counted as (

    select count(*) as concepts_in_common
    from shared_concepts

)

select
    case when dissection_descriptions.dissection_id = $a then 'A' else 'B' end as side,
    dissection_descriptions.*,
    networks.fingerprint as network_fingerprint,
    datasets.fingerprint as dataset_fingerprint,
    clips.fingerprint as clip_fingerprint,
    concept_sets.fingerprint as concept_set_fingerprint,
    array_to_string(concept_sets.templates, '; ') as templates,
    coalesce(parents.parent_network_id, networks.parent_network_id, networks.network_id) as origin_id,
    dissections.softmax_scale,
    dissections.prior_weight,
    dissections.p_first,
    dissections.p_last,
    dissections.rank_fraction,
    dissections.rank_power,
    dissections.rank_scale,
    dissections.include_dead,
    dissections.min_images,
    dissections.kept_concepts,
    dissections.null_draws,
    dissections.seed,
    counted.concepts_in_common
from dissection_descriptions
inner join dissections on dissection_descriptions.dissection_id = dissections.dissection_id
inner join networks on dissections.network_id = networks.network_id
inner join splits on dissections.split_id = splits.split_id
inner join datasets on splits.dataset_id = datasets.dataset_id
inner join clips on dissections.clip_id = clips.clip_id
inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
left join networks as parents on networks.parent_network_id = parents.network_id
cross join counted
where dissection_descriptions.dissection_id in ($a, $b)
order by side
limit 2

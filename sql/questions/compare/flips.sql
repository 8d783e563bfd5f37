-- Which images does only one of the two networks get right? Twelve of each kind: those on which B is most confident.
-- grain: image_id
-- parameters: a, b
--
-- On the last split for which it is known whether both networks are right. num_images: all images of the kind.

with

networks_compared as (

    select of_a.network_id, of_b.network_id as other_network_id
    from dissections as of_a
    cross join dissections as of_b
    where of_a.dissection_id = $a and of_b.dissection_id = $b

),

judged_by_both as (

    select
        mine.split,
        mine.split_id,
        mine.image_id,
        mine.true_class,
        mine.predicted_class as class_of_a,
        others.predicted_class as class_of_b,
        others.confidence as confidence_of_b,
        case when others.is_correct then 'gained' else 'lost' end as kind,
        mine.is_correct <> others.is_correct as is_flip
    from networks_compared
    inner join image_predictions as mine on networks_compared.network_id = mine.network_id
    inner join image_predictions as others
        on
            networks_compared.other_network_id = others.network_id
            and mine.image_id = others.image_id
    where
        mine.is_correct is not null
        and others.is_correct is not null
        and mine.network_id <> others.network_id

)

select
    named_datasets.dataset,
    judged_by_both.split,
    judged_by_both.kind,
    judged_by_both.image_id,
    judged_by_both.true_class,
    judged_by_both.class_of_a,
    judged_by_both.class_of_b,
    judged_by_both.confidence_of_b,
    regexp_replace(images.path, '^.*[/\\]', '') as file,
    images.thumbnail,
    count(*) over (partition by judged_by_both.kind) as num_images
from judged_by_both
inner join images on judged_by_both.image_id = images.image_id
inner join splits on judged_by_both.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
where judged_by_both.is_flip and judged_by_both.split_id = (select max(split_id) from judged_by_both)
qualify
    row_number() over (
        partition by judged_by_both.kind
        order by judged_by_both.confidence_of_b desc, judged_by_both.image_id
    ) <= 12
order by judged_by_both.kind, judged_by_both.confidence_of_b desc, judged_by_both.image_id

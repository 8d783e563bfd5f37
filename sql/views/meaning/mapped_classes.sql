-- The classes of images that each concept stands for.
-- grain: concept_id, class
--
-- They are those that the concept set maps it to (concept_classes). If a set maps none of its concepts, a concept stands
-- for the class of its name. Names match if they are equal, or if they are the only two that differ just in case,
-- spaces, underscores and hyphens, because a dataset may spell its classes differently.

with

mapped_sets as (

    select distinct concepts.concept_set_id
    from concepts
    inner join concept_classes on concepts.concept_id = concept_classes.concept_id

),

alike as (

    select
        concepts.concept_id,
        classes.class,
        concepts.concept = classes.class as is_same,
        count(*) over (
            partition by concepts.concept_set_id, classes.dataset_id, nd_name_key(classes.class)
        ) as num_alike
    from concepts
    inner join classes on nd_name_key(concepts.concept) = nd_name_key(classes.class)
    left join mapped_sets on concepts.concept_set_id = mapped_sets.concept_set_id
    where mapped_sets.concept_set_id is null

)

select
    concept_id,
    class
from concept_classes
union all
select distinct
    concept_id,
    class
from alike
where is_same or num_alike = 1

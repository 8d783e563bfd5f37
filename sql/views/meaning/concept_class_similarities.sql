-- How near each concept is to each class in CLIP, beside the classes that the concept set maps it to.
-- grain: clip_id, concept_id, class
-- public
--
-- Check a concept whose rank 1 is not mapped: its text is nearer to a class to which it is not mapped. Similarities
-- are cosines of text embeddings. Compare them within a concept, not across concepts.
-- The classes are those that the concept set names. Their embeddings come from concepts of the same name in one
-- concept set that the same CLIP has embedded, such as the shipped emotions. This is the set that holds most of the
-- classes; among equals the set itself, else the newest. So all classes of a concept have the same prompts, and a set
-- that is added later changes nothing for a set that holds its own classes. A class that the chosen set lacks has no
-- row.
-- Names match if they are equal, or if they are the only two that differ just in case, spaces, underscores and
-- hyphens, because a dataset may spell its classes differently.

with

named_classes as (

    select distinct
        concepts.concept_set_id,
        concept_classes.class
    from concepts
    inner join concept_classes on concepts.concept_id = concept_classes.concept_id

),

alike as (

    select
        concept_embeddings.clip_id,
        named_classes.concept_set_id,
        named_classes.class,
        concepts.concept_set_id as text_set_id,
        concept_embeddings.embedding,
        named_classes.class = concepts.concept as is_same,
        count(*) over (
            partition by
                concept_embeddings.clip_id, named_classes.concept_set_id, named_classes.class, concepts.concept_set_id
        ) as num_alike
    from named_classes
    inner join concepts on nd_name_key(named_classes.class) = nd_name_key(concepts.concept)
    inner join concept_embeddings on concepts.concept_id = concept_embeddings.concept_id

),

class_texts as (

    select clip_id, concept_set_id, class, text_set_id, embedding
    from alike
    where is_same or num_alike = 1

),

candidates as (

    select
        clip_id,
        concept_set_id,
        text_set_id,
        count(*) as classes
    from class_texts
    group by clip_id, concept_set_id, text_set_id

),

chosen as (

    select
        clip_id,
        concept_set_id,
        text_set_id
    from candidates
    qualify
        row_number() over (
            partition by clip_id, concept_set_id
            order by classes desc, case when text_set_id = concept_set_id then 0 else 1 end, text_set_id desc
        ) = 1

),

compared as (

    select
        class_texts.clip_id,
        class_texts.concept_set_id,
        concepts.concept_id,
        concepts.concept,
        class_texts.class,
        nd_dot(concept_embeddings.embedding, class_texts.embedding) as similarity
    from chosen
    inner join class_texts
        on
            chosen.clip_id = class_texts.clip_id
            and chosen.concept_set_id = class_texts.concept_set_id
            and chosen.text_set_id = class_texts.text_set_id
    inner join concepts on class_texts.concept_set_id = concepts.concept_set_id
    inner join concept_embeddings
        on
            concepts.concept_id = concept_embeddings.concept_id
            and class_texts.clip_id = concept_embeddings.clip_id

)

select
    concept_sets.name as concept_set,
    compared.concept,
    compared.class,
    compared.similarity,
    row_number() over (
        partition by compared.clip_id, compared.concept_id
        order by compared.similarity desc, compared.class
    ) as rank,
    concept_classes.class is not null as mapped,
    compared.clip_id,
    compared.concept_set_id,
    compared.concept_id
from compared
inner join concept_sets on compared.concept_set_id = concept_sets.concept_set_id
left join concept_classes
    on
        compared.concept_id = concept_classes.concept_id
        and compared.class = concept_classes.class

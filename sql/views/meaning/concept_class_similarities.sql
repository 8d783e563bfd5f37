-- How near CLIP puts each concept of a set to each class, beside the classes that the set says it stands for.
-- grain: clip_id, concept_id, class
-- public
--
-- A concept whose rank 1 is not mapped is worth a second look: its text is nearer to a class that it does not
-- stand for. Similarities are cosines of text embeddings and compare within a concept, not across concepts.
-- The classes are those that the set names. Their texts are the concepts of that name of one set that the same CLIP
-- has embedded (as the shipped emotions are): the one that holds most of the classes, of several the set itself, else
-- the newest, so that all classes of a concept come from the same prompts, and a set that is added later changes nothing
-- for one that holds its own classes. A class that the chosen set does not hold has no row. Names are equal, or the only
-- ones that differ just in case, spaces, underscores and hyphens: a dataset may spell its classes otherwise.

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

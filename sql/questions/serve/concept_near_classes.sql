-- How near does CLIP put one concept to each class?
-- grain: class
-- parameters: concept

select
    concept_class_similarities.class,
    concept_class_similarities.similarity,
    concept_class_similarities.mapped
from concept_class_similarities
inner join dissections
    on
        concept_class_similarities.clip_id = dissections.clip_id
        and concept_class_similarities.concept_set_id = dissections.concept_set_id
inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
where concept_class_similarities.concept = $concept
order by concept_class_similarities.similarity desc, concept_class_similarities.class
limit 60

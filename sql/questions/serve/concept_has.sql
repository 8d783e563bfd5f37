-- Is a text a concept of the shown dissection, is it among the concepts of any image, and were its neurons silenced?
-- grain: concept
-- parameters: concept
-- engine: duckdb
--
-- If not, the page does not ask for the classes and effects: to find none takes the views as long as to find some.

with

asked as (

    select concepts.concept_id, concepts.concept
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join concepts on dissections.concept_set_id = concepts.concept_set_id
    where concepts.concept = $concept

)

select
    concept,
    exists(select 1 from image_concepts where concept_id in (select concept_id from asked)) as images,
    exists(select 1 from ablations where concept_id in (select concept_id from asked)) as effects
from asked

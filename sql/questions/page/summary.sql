-- What is the shown dissection, and what was it made from? No row if there is no dissection.
-- grain: dissection_id
--
-- images_with_class: the sound images of the probing set whose class is known.

select
    dissection_descriptions.*,
    networks.preprocessing as network_preprocessing,
    clips.preprocessing as clip_preprocessing,
    concept_sets.templates,
    (
        select count(images.class)
        from images
        where images.split_id = dissections.split_id and images.defect is null
    ) as images_with_class
from dissection_descriptions
inner join shown_dissection on dissection_descriptions.dissection_id = shown_dissection.dissection_id
inner join dissections on dissection_descriptions.dissection_id = dissections.dissection_id
inner join networks on dissections.network_id = networks.network_id
inner join clips on dissections.clip_id = clips.clip_id
inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id

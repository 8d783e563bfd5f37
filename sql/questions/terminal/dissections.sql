-- Which dissections are there, and what did each look at?
-- grain: dissection_id

select
    dissection_id, network, dataset, probing_split, images, images_left_out, clip, concept_set, concepts,
    scorer, rule, shown
from dissection_summary
order by dissection_id

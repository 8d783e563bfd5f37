-- Which dissections are there, and what was each made from?
-- grain: dissection_id

select
    dissection_id, network, dataset, probing_split, images, images_left_out, clip, concept_set, concepts,
    scorer, rule, shown
from dissection_summary
order by dissection_id

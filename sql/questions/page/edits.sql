-- What did each edit of the shown dissection do on each split? Chosen edits come first, then the newest; at most 200.
-- grain: edit_id, split_id
--
-- chosen_on: the split on which the edit was chosen; NULL if it was not chosen. edits_tried: the number of edits that
-- p_corrected corrects for.

with

choices as (

    select edit_choices.edit_id, splits.split
    from edit_choices
    inner join splits on edit_choices.split_id = splits.split_id

)

select
    edit_results.*,
    edits.name as edit,
    choices.split as chosen_on,
    count(*) over () as num_results
from edit_results
inner join shown_dissection on edit_results.dissection_id = shown_dissection.dissection_id
inner join edits on edit_results.edit_id = edits.edit_id
left join choices on edit_results.edit_id = choices.edit_id
order by choices.split is null, edit_results.edit_id desc, edit_results.split_id
limit 200

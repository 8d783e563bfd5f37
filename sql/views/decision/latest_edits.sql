-- The edit of each dissection that a report shows: the one chosen last, or the newest if none was chosen.
-- grain: dissection_id
--
-- last_split_id: the split with the highest id on which the edit was measured, so that the test split is preferred to
-- validation.

with

measured as (

    select
        edits.edit_id,
        edits.dissection_id,
        max(edit_outcomes.split_id) as last_split_id
    from edits
    inner join edit_outcomes on edits.edit_id = edit_outcomes.edit_id
    where edits.control is null
    group by edits.edit_id, edits.dissection_id

),

choices as (

    select edit_id, max(chosen_at) as chosen_at
    from edit_choices
    group by edit_id

)

select measured.edit_id, measured.last_split_id, measured.dissection_id
from measured
left join choices on measured.edit_id = choices.edit_id
qualify
    row_number() over (
        partition by measured.dissection_id
        order by choices.chosen_at desc nulls last, measured.edit_id desc
    ) = 1

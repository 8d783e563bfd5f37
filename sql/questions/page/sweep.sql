-- How do edits by the same rule on the same layers compare, over τ and factor, where the shown edit was chosen?
-- grain: tau, factor
--
-- On the split on which the shown edit was chosen, or the splits that were measured where it was not.

with

choices as (

    select edit_choices.edit_id, min(edit_choices.split_id) as split_id
    from edit_choices
    group by edit_choices.edit_id

)

select
    edit_results.tau,
    edit_results.factor,
    edit_results.split,
    edit_results.correct_after - edit_results.correct_before as difference,
    edit_results.edit_id = latest_edits.edit_id as is_chosen
from edit_results
cross join shown_dissection
inner join latest_edits on shown_dissection.dissection_id = latest_edits.dissection_id
inner join edit_results as shown
    on
        latest_edits.edit_id = shown.edit_id
        and edit_results.split_id = shown.split_id
        and edit_results.rule = shown.rule
        and edit_results.layer = shown.layer
        and edit_results.dissection_id = shown.dissection_id
left join choices on latest_edits.edit_id = choices.edit_id
where
    edit_results.tau is not null
    and edit_results.factor is not null
    and edit_results.split_id = coalesce(choices.split_id, shown.split_id)
qualify
    row_number() over (
        partition by edit_results.tau, edit_results.factor
        order by case when edit_results.edit_id = latest_edits.edit_id then 0 else 1 end, edit_results.edit_id desc
    ) = 1
order by edit_results.tau, edit_results.factor
limit 2000

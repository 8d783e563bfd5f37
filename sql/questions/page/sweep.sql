-- How do edits by the shown edit's rule on its layers compare, over τ and factor?
-- grain: tau, factor
--
-- On the split on which the shown edit was chosen; if it was not chosen, on each split that was measured. If several
-- edits have the same τ and factor, the shown one counts, or else the newest.

with

choices as (

    select edit_id, min(split_id) as split_id
    from edit_choices
    group by edit_id

),

comparable as (

    select
        edit_results.tau,
        edit_results.factor,
        edit_results.split,
        edit_results.correct_after - edit_results.correct_before as difference,
        edit_results.edit_id = latest_edits.edit_id as is_chosen,
        edit_results.edit_id
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

),

newest as (

    select tau, factor, split, difference, is_chosen
    from comparable
    qualify row_number() over (partition by tau, factor order by is_chosen desc, edit_id desc) = 1

)

select *
from newest
order by tau, factor
limit 2000

-- For each true class, how many of its images an edit changed to right, to wrong or to another wrong class.
-- grain: edit_id, split_id, true_class
-- public

select
    edit_id,
    split,
    true_class,
    count(*) as flips,
    count(*) filter (where kind = 'gained') as gained,
    count(*) filter (where kind = 'lost') as lost,
    split_id,
    dissection_id
from edit_flips
where kind is not null
group by edit_id, split, true_class, split_id, dissection_id

-- Every dataset with the name that views and reports show it by: the one place where that name is made.
-- grain: dataset_id
--
-- The name is the study's while it stands for one content. Once images were added, removed or chosen otherwise, each
-- content shows its number too, in the order in which they came: faces (version 1), faces (version 2).

with

counted as (

    select
        dataset_id,
        name,
        row_number() over (partition by name order by dataset_id) as version,
        count(*) over (partition by name) as versions
    from datasets

)

select
    dataset_id,
    case when versions = 1 then name else name || ' (version ' || nd_digits(version) || ')' end as dataset,
    name,
    version
from counted

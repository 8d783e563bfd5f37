-- Every dataset with the name that views and reports show it by: the one place where that name is made.
-- grain: dataset_id
--
-- The name is the study's while it stands for one content. Once images were added, removed or chosen otherwise, each
-- content shows the beginning of its fingerprint too: faces (3f2a9c1b). A number would depend on which came first.

with

counted as (

    select
        dataset_id,
        name,
        fingerprint,
        count(*) over (partition by name) as contents
    from datasets

)

select
    dataset_id,
    case when contents = 1 then name else name || ' (' || substring(fingerprint, 1, 8) || ')' end as dataset,
    name,
    fingerprint
from counted

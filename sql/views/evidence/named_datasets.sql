-- Each dataset with the name that views and reports show. No other query makes this name.
-- grain: dataset_id
--
-- The name is the study's, as long as all datasets of that name have the same content. If images were added, removed
-- or selected differently, there are several contents, and each shows the start of its fingerprint too: faces
-- (3f2a9c1b). A number instead would depend on the order in which the contents were stored.

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

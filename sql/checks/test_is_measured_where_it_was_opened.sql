-- A row is an edit, or the network made from it, that was measured on test images although the test split was not
-- opened for it. The controls of an edit need the opening of the edit.

with

measured as (

    select edit_id, split_id, count(*) as blocks
    from edit_blocks
    group by edit_id, split_id
    union all
    select networks.edit_id, extractions.split_id, count(*) as blocks
    from networks
    inner join extractions on networks.network_id = extractions.network_id
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    where networks.edit_id is not null
    group by networks.edit_id, extractions.split_id

)

select
    edits.edit_id,
    edits.name,
    edits.control_of,
    measured.split_id,
    measured.blocks
from edits
inner join measured on edits.edit_id = measured.edit_id
inner join splits on measured.split_id = splits.split_id
left join split_openings
    on
        coalesce(edits.control_of, edits.edit_id) = split_openings.edit_id
        and measured.split_id = split_openings.split_id
where splits.split = 'test' and split_openings.edit_id is null

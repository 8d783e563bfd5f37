-- What was left out of each dataset, and why: images with a defect by their split, and files that are not images?
-- grain: dataset, reason, detail

with

reasons as (

    select
        splits.dataset_id,
        case
            when substring(images.defect, 1, 6) = 'repeat' then 'repeat'
            when substring(images.defect, 1, 10) = 'unreadable' then 'unreadable'
            when substring(images.defect, 1, 5) = 'blank' then 'blank'
            else images.defect
        end as reason,
        splits.split as detail,
        count(*) as files
    from images
    inner join splits on images.split_id = splits.split_id
    where images.defect is not null
    group by splits.dataset_id, reason, splits.split
    union all
    select dataset_id, reason, detail, files
    from left_out

)

select named_datasets.dataset, reasons.reason, reasons.detail, reasons.files
from reasons
inner join named_datasets on reasons.dataset_id = named_datasets.dataset_id
order by named_datasets.dataset_id, reasons.files desc, reasons.reason, reasons.detail

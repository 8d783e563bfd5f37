-- How many images of each split are sound, and how many are blank, repeats or unreadable?
-- grain: split
--
-- Of the dataset that the shown dissection probed.

with

probed as (

    select splits.dataset_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join splits on dissections.split_id = splits.split_id

)

select
    splits.split,
    count(*) filter (where images.defect is null) as images,
    count(*) filter (where substring(images.defect, 1, 5) = 'blank') as blank,
    count(*) filter (where substring(images.defect, 1, 6) = 'repeat') as repeats,
    count(*) filter (where substring(images.defect, 1, 10) = 'unreadable') as unreadable
from images
inner join splits on images.split_id = splits.split_id
inner join probed on splits.dataset_id = probed.dataset_id
group by splits.split, splits.split_id
order by splits.split_id

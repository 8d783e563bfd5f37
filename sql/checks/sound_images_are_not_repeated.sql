-- A row is a picture that occurs several times in a dataset and is not marked as a repeat.

select
    splits.dataset_id,
    images.sha256,
    count(*) as images,
    min(images.image_id) as first_image_id
from images
inner join splits on images.split_id = splits.split_id
where images.defect is null
group by splits.dataset_id, images.sha256
having count(*) > 1

-- A row is a class of images that their dataset does not have.
--
-- Classes of concepts are not checked: a concept may describe a class that this dataset does not have.

select
    splits.dataset_id,
    images.class,
    count(*) as images
from images
inner join splits on images.split_id = splits.split_id
left join classes
    on
        splits.dataset_id = classes.dataset_id
        and images.class = classes.class
where images.class is not null and classes.class is null
group by splits.dataset_id, images.class

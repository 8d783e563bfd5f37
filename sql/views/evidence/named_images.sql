-- Each image with its dataset, split, source and class, also if it is left out.
-- grain: image_id
-- public
--
-- source: which of several united sources the image is from; NULL if the dataset has one source.
-- The table image_attributes has what a source says beside that, one row per image and attribute.

select
    named_datasets.dataset,
    splits.split,
    images.image_id,
    images.position,
    images.path,
    images.source,
    images.class as true_class,
    images.defect,
    images.sha256
from images
inner join splits on images.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id

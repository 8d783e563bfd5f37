-- What does an image look like?
-- grain: image_id
-- parameters: image

select image_id, thumbnail
from images
where image_id = $image

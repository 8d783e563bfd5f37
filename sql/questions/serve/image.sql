-- Which image is it, and where does it come from?
-- grain: image_id
-- parameters: image

select *
from named_images
where image_id = $image

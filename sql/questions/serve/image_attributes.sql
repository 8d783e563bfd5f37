-- What else does the source say about an image?
-- grain: attribute
-- parameters: image

select attribute, value
from image_attributes
where image_id = $image
order by attribute
limit 100

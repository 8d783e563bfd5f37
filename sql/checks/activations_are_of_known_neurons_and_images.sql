-- A row is a neuron or an image that has activations but does not exist.
-- cheap: no

select 'neuron' as of_what, neuron_id as id, count(*) as activations
from activations
where neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'image' as of_what, image_id as id, count(*) as activations
from activations
where image_id not in (select image_id from images)
group by image_id

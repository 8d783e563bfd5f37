-- A row is a dissection that needs more images or neurons than the views keep, or fewer than one.
--
-- top_activations keeps 256 images per neuron, image_concepts keeps 20 neurons per image.

select dissection_id, top_k, min_images, accuracy_images, images_neurons
from dissections
where
    top_k not between 1 and 256
    or min_images not between 1 and top_k
    or accuracy_images not between 1 and 256
    or images_neurons not between 1 and 20

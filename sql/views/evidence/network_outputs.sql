-- The classes that each network can predict: the names of its outputs.
-- grain: network_id, class
--
-- If the class of an image is not here, the prediction counts as neither right nor wrong.

with

outputs as (

    select network_id, unnest(classes) as class
    from networks

)

select distinct network_id, class
from outputs

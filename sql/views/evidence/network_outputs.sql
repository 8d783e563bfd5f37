-- The classes that each network can answer with: the names of its outputs.
-- grain: network_id, class
--
-- Whether an image of another class is right is not known: it is neither right nor wrong.

with

outputs as (

    select network_id, unnest(classes) as class
    from networks

)

select distinct network_id, class
from outputs

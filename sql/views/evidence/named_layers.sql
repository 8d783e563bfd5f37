-- Each layer with the name that views and reports show. No other query makes this name.
-- grain: layer_id
--
-- The name is the path of the module if the network has this module recorded in one way only. If it is recorded in
-- several ways, each way is a layer of its own, and its name shows the way: conv1 (avg), conv1 (max), relu (avg, call
-- 2).
-- way: the text in the parentheses, also if the name does not show it. If two layers have the same module and the same
-- pooling and call, they read different axes of the module's output; the later one has a layout number.

with

read_ways as (

    select
        layer_id,
        network_id,
        layer as module,
        case
            when call is null then pooling
            when pooling = 'none' then 'call ' || nd_digits(call)
            else pooling || ', call ' || nd_digits(call)
        end as way,
        position
    from layers

),

ways as (

    select
        *,
        row_number() over (partition by network_id, module, way order by layer_id) as layout
    from read_ways

),

told_apart as (

    select
        layer_id,
        network_id,
        module,
        case when layout = 1 then way else way || ', layout ' || nd_digits(layout) end as way,
        position,
        count(*) over (partition by network_id, module) as times
    from ways

)

select
    layer_id,
    network_id,
    case when times = 1 then module else module || ' (' || way || ')' end as layer,
    module,
    way,
    position
from told_apart

-- What an edit multiplies the weight row of each neuron of its layer by.
-- grain: edit_id, layer, unit
--
-- paper: interpretable neurons by the factor, all others by its inverse, a score above the edit's tau being
-- interpretable. sql: what the user's own query yielded, as it was kept when the edit was made.

with

by_paper as (

    select
        edits.edit_id,
        named_neurons.layer,
        named_neurons.unit,
        case
            when neuron_labels.similarity > edits.tau then edits.factor
            else 1 / edits.factor
        end as scale
    from edits
    inner join neuron_labels on edits.dissection_id = neuron_labels.dissection_id
    inner join named_neurons
        on
            neuron_labels.neuron_id = named_neurons.neuron_id
            and edits.layer = named_neurons.layer
    where edits.rule = 'paper'

),

by_query as (

    select
        edits.edit_id,
        named_neurons.layer,
        named_neurons.unit,
        edit_scales.scale
    from edits
    inner join edit_scales on edits.edit_id = edit_scales.edit_id
    inner join named_neurons on edit_scales.neuron_id = named_neurons.neuron_id
    where edits.rule = 'sql'

)

select edit_id, layer, unit, scale from by_paper
union all
select edit_id, layer, unit, scale from by_query

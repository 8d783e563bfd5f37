-- The factor by which an edit multiplies the weight row of each neuron of its layers.
-- grain: edit_id, layer, unit
-- public
--
-- The rule of the edit decides:
-- paper: factor for neurons with a score above the edit's tau, 1 / factor_down for all others. calibrated: the same
-- for labels that are unlikely by chance. weight_l1: the same for weight rows whose L1 norm is above the mean of the
-- layer.
-- proportional: factor times the score, rescaled so that the lowest score of the layer is 0 and the highest is 1. A
-- neuron without a score is not changed.
-- ablate: 0 for interpretable neurons with one of the edit's concepts, or with any concept if the edit names none.
-- sql, and all controls: the scales that were stored when the edit was made.
-- The bias is scaled like the weights if scale_bias is set.

with

scored as (

    select
        edits.edit_id,
        edits.rule,
        edits.tau,
        edits.factor,
        edits.factor_down,
        edits.scale_bias,
        edits.concepts,
        named_neurons.layer,
        named_neurons.unit,
        named_neurons.neuron_id,
        neuron_labels.similarity,
        neuron_labels.calibrated,
        neuron_labels.interpretable,
        concepts.concept,
        named_neurons.weight_l1,
        avg(named_neurons.weight_l1) over (partition by edits.edit_id, edit_layers.layer_id) as mean_weight_l1,
        min(neuron_labels.similarity) over (partition by edits.edit_id, edit_layers.layer_id) as lowest,
        max(neuron_labels.similarity) over (partition by edits.edit_id, edit_layers.layer_id) as highest
    from edits
    inner join edit_layers on edits.edit_id = edit_layers.edit_id
    inner join neuron_labels
        on
            edits.dissection_id = neuron_labels.dissection_id
            and edit_layers.layer_id = neuron_labels.layer_id
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    left join concepts on neuron_labels.concept_id = concepts.concept_id
    where edits.rule <> 'sql' and edits.control is null

),

chosen as (

    select
        *,
        case rule
            when 'paper' then coalesce(similarity > tau, false)
            when 'calibrated' then calibrated
            when 'weight_l1' then weight_l1 > mean_weight_l1
            when 'ablate' then interpretable and (concepts is null or nd_contains(concepts, concept))
        end as is_chosen
    from scored

),

by_rule as (

    select
        edit_id,
        layer,
        unit,
        case
            when rule = 'proportional'
                then coalesce(factor * (similarity - lowest) / nullif(highest - lowest, 0), 1)
            when is_chosen is null then null  -- the rule needs q, and no null was drawn
            when rule = 'ablate' then case when is_chosen then 0 else 1 end
            when is_chosen then factor
            else 1 / factor_down
        end as scale,
        scale_bias,
        neuron_id
    from chosen

)

select
    edit_id,
    layer,
    unit,
    scale,
    case when scale_bias then scale else 1 end as bias_scale,
    neuron_id
from by_rule
union all
select
    edits.edit_id,
    named_neurons.layer,
    named_neurons.unit,
    edit_scales.scale,
    edit_scales.bias_scale,
    edit_scales.neuron_id
from edits
inner join edit_scales on edits.edit_id = edit_scales.edit_id
inner join named_neurons on edit_scales.neuron_id = named_neurons.neuron_id
where edits.rule = 'sql' or edits.control is not null

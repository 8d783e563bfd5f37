-- How many neurons of each layer have an interpretable label, and how often these labels are right.
-- grain: network, layer, dissection_id
-- public
--
-- Accuracies are means over the neurons whose accuracy is known (judged_neurons). A layer without interpretable
-- neurons keeps its row, so that a chart shows 0 % instead of no bar. Neurons without a label count as uninterpretable.
-- num_dead, num_sparse, num_tied: the neurons without a label because they are dead, because they fire on too few
-- images, or because their highest values tie (unlabelled_neurons says more).
-- If no null was drawn for the layer, num_calibrated is NULL; under the rule q, so is everything that counts
-- interpretable neurons.

with

judged as (

    select
        named_neurons.network,
        named_neurons.layer,
        named_neurons.position,
        named_neurons.weight_l1,
        neuron_labels.interpretable,
        neuron_labels.above_tau,
        neuron_labels.calibrated,
        neuron_labels.dead,
        neuron_labels.sparse and not dissected_neurons.tied as sparse,
        dissected_neurons.tied,
        neuron_labels.similarity,
        judged_neurons.accuracy,
        neuron_labels.dissection_id
    from shown_dissection
    inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    inner join dissected_neurons
        on
            neuron_labels.dissection_id = dissected_neurons.dissection_id
            and neuron_labels.neuron_id = dissected_neurons.neuron_id
    left join judged_neurons
        on
            neuron_labels.neuron_id = judged_neurons.neuron_id
            and neuron_labels.dissection_id = judged_neurons.dissection_id

)

select
    network,
    layer,
    count(*) as neurons,
    case when count(interpretable) = count(*) then count(*) filter (where interpretable) end as num_interpretable,
    case when count(interpretable) = count(*) then count(*) filter (where not interpretable) end
        as num_uninterpretable,
    avg(accuracy) as overall_accuracy,
    avg(accuracy) filter (where interpretable) as interpretable_accuracy,
    avg(accuracy) filter (where not interpretable) as uninterpretable_accuracy,
    case when count(interpretable) = count(*) then count(*) filter (where interpretable) / count(*) end
        as proportion_interpretable,
    count(*) filter (where above_tau) as num_above_tau,
    case when count(calibrated) = count(*) then count(*) filter (where calibrated) end as num_calibrated,
    count(*) filter (where dead) as num_dead,
    avg(similarity) as mean_similarity,
    avg(weight_l1) filter (where interpretable) as interpretable_weight_l1,
    avg(weight_l1) filter (where not interpretable) as uninterpretable_weight_l1,
    count(*) filter (where sparse) as num_sparse,
    count(*) filter (where tied) as num_tied,
    position,
    dissection_id
from judged
group by network, layer, position, dissection_id

-- Which concepts are labels in either of two networks, and which layer of each has the largest share of them? At most 60.
-- grain: concept
-- parameters: a, b
--
-- Only calibrated labels count; if no null was drawn, interpretable ones.

with

carried as (

    select
        neuron_labels.dissection_id,
        named_neurons.layer,
        concepts.concept,
        count(*) filter (where coalesce(neuron_labels.calibrated, neuron_labels.interpretable)) as neurons,
        sum(count(*)) over (partition by neuron_labels.dissection_id, named_neurons.layer) as neurons_of_layer
    from neuron_labels
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    left join concepts on neuron_labels.concept_id = concepts.concept_id
    where neuron_labels.dissection_id in ($a, $b)
    group by neuron_labels.dissection_id, named_neurons.layer, concepts.concept

),

shares as (

    select
        dissection_id,
        concept,
        layer,
        neurons / neurons_of_layer as share,
        cast(sum(neurons) over (partition by dissection_id, concept) as bigint) as neurons
    from carried
    where concept is not null and neurons > 0

),

strongest as (

    select dissection_id, concept, layer, share, neurons
    from shares
    qualify row_number() over (partition by dissection_id, concept order by share desc, layer) = 1

),

of_a as (

    select concept, layer, share, neurons
    from strongest
    where dissection_id = $a

),

of_b as (

    select concept, layer, share, neurons
    from strongest
    where dissection_id = $b

)

select
    coalesce(of_a.concept, of_b.concept) as concept,
    of_a.neurons,
    of_a.layer,
    of_a.share,
    of_b.neurons as other_neurons,
    of_b.layer as other_layer,
    of_b.share as other_share,
    count(*) over () as num_concepts,
    count(of_a.concept) over () as num_of_a,
    count(of_b.concept) over () as num_of_b
from of_a
full join of_b on of_a.concept = of_b.concept
order by greatest(coalesce(of_a.share, 0), coalesce(of_b.share, 0)) desc, concept
limit 60

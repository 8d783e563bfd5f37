-- The label of each neuron in each dissection: its best concept, the runner-up, and whether it is interpretable.
-- grain: dissection_id, neuron_id
-- materialized: table by dissection
--
-- Of the concepts that tie with the best score (nd_tied), the one that comes first in its set is the label.
-- A dead or sparse neuron keeps its row, without a label. So does a neuron for which all concepts tie:
-- soft_wpmi compares the neurons of a layer, and a layer with one neuron has nothing to compare.
-- p: how often a neuron that is unrelated to the images gets a label with at least this z. q: the share of false
-- labels among all labels of the layer with a p this small or smaller (Benjamini and Hochberg 1995).
-- Where images are in groups, p is that of one image of each group (label_checks), not that of this z.
-- If no null was drawn for the layer, or there are fewer than 20 groups, p, q and calibrated are NULL; under the rule q, so is interpretable.

with

scored as (

    select
        dissection_id,
        neuron_id,
        concept_id,
        similarity,
        z,
        max(similarity) over (partition by dissection_id, neuron_id) as best
    from concept_scores

),

ranked as (

    select
        scored.dissection_id,
        scored.neuron_id,
        scored.concept_id,
        scored.similarity,
        scored.z,
        row_number() over (
            partition by scored.dissection_id, scored.neuron_id
            order by nd_tied(scored.similarity, scored.best) desc, concepts.position
        ) as rank
    from scored
    inner join concepts on scored.concept_id = concepts.concept_id

),

best_two as (

    select
        dissection_id,
        neuron_id,
        max(concept_id) filter (where rank = 1) as concept_id,
        max(similarity) filter (where rank = 1) as similarity,
        max(z) filter (where rank = 1) as z,
        max(concept_id) filter (where rank = 2) as runner_up_id,
        max(similarity) filter (where rank = 2) as runner_up_similarity
    from ranked
    group by dissection_id, neuron_id
    having count(*) = 1 or nd_tied(min(similarity), max(similarity)) < max(similarity)

),

null_layers as (

    select distinct dissection_id, layer_id, null_group
    from null_quantiles

),

tested as (

    select
        best_two.dissection_id,
        best_two.neuron_id,
        dissected_neurons.layer_id,
        coalesce(min(null_quantiles.p), 1) as p
    from best_two
    inner join dissected_neurons
        on
            best_two.dissection_id = dissected_neurons.dissection_id
            and best_two.neuron_id = dissected_neurons.neuron_id
    inner join null_layers
        on
            best_two.dissection_id = null_layers.dissection_id
            and dissected_neurons.layer_id = null_layers.layer_id
            and dissected_neurons.null_group = null_layers.null_group
    left join null_quantiles
        on
            best_two.dissection_id = null_quantiles.dissection_id
            and dissected_neurons.layer_id = null_quantiles.layer_id
            and dissected_neurons.null_group = null_quantiles.null_group
            and best_two.z >= null_quantiles.z
    group by best_two.dissection_id, best_two.neuron_id, dissected_neurons.layer_id
    union all
    select
        best_two.dissection_id,
        best_two.neuron_id,
        dissected_neurons.layer_id,
        label_checks.p
    from best_two
    inner join dissected_neurons
        on
            best_two.dissection_id = dissected_neurons.dissection_id
            and best_two.neuron_id = dissected_neurons.neuron_id
    inner join label_checks
        on
            best_two.dissection_id = label_checks.dissection_id
            and best_two.neuron_id = label_checks.neuron_id
            and best_two.concept_id = label_checks.concept_id
    where label_checks.p is not null

),

stepped as (

    select
        *,
        p * count(*) over (partition by dissection_id, layer_id)
        / row_number() over (partition by dissection_id, layer_id order by p, neuron_id) as step
    from tested

),

corrected as (

    select
        dissection_id,
        neuron_id,
        p,
        min(step) over (
            partition by dissection_id, layer_id
            order by p, neuron_id
            rows between current row and unbounded following
        ) as q
    from stepped

)

select
    dissected_neurons.dissection_id,
    dissected_neurons.neuron_id,
    dissected_neurons.layer_id,
    best_two.concept_id,
    best_two.similarity,
    best_two.runner_up_id,
    case
        when best_two.runner_up_id is not null then greatest(best_two.similarity - best_two.runner_up_similarity, 0)
    end as margin,
    best_two.z,
    corrected.p,
    corrected.q,
    coalesce(best_two.similarity > dissections.tau, false) as above_tau,
    -- A neuron without a label has nothing to calibrate.
    case when best_two.neuron_id is null then false else corrected.q <= dissections.q_limit end as calibrated,
    case
        when best_two.neuron_id is null then false
        when dissections.rule = 'q' then corrected.q <= dissections.q_limit
        else best_two.similarity > dissections.tau
    end as interpretable,
    dissected_neurons.dead,
    dissected_neurons.sparse,
    dissected_neurons.tied,
    dissected_neurons.images_fired,
    dissected_neurons.null_group
from dissected_neurons
inner join dissections on dissected_neurons.dissection_id = dissections.dissection_id
left join best_two
    on
        dissected_neurons.dissection_id = best_two.dissection_id
        and dissected_neurons.neuron_id = best_two.neuron_id
left join corrected
    on
        dissected_neurons.dissection_id = corrected.dissection_id
        and dissected_neurons.neuron_id = corrected.neuron_id

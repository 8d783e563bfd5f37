-- Soft-WPMI and WPMI (CLIP-Dissect, arXiv 2204.10965): how far a neuron's best images speak for a concept,
-- beyond what the layer's neurons do on the whole.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- L = sum over ranks r of ln(1 + p_r (P - 1) + 1e-7), p_r falling from p_first towards p_last; WPMI is the case
-- p_first = p_last = 1. similarity = L - prior_weight * ln(mean over the layer's neurons of exp L): the mean is
-- over the live neurons of the whole layer, so that no score depends on which neurons share a call.
-- z is how far L lies above its mean for a neuron that has nothing to do with the images, in standard deviations.

with

log_likelihoods as (

    select
        dissections.dissection_id,
        top_activations.neuron_id,
        image_concept_probabilities.concept_id,
        sum(
            ln(
                1
                + (
                    dissections.p_first
                    - (top_activations.rank - 1) / dissections.top_k * (dissections.p_first - dissections.p_last)
                )
                * (image_concept_probabilities.probability - 1)
                + 1e-7
            )
        ) as log_likelihood
    from dissections
    inner join top_activations
        on
            dissections.split_id = top_activations.split_id
            and dissections.top_k >= top_activations.rank
    inner join image_concept_probabilities
        on
            top_activations.image_id = image_concept_probabilities.image_id
            and dissections.dissection_id = image_concept_probabilities.dissection_id
    where dissections.scorer in ('soft_wpmi', 'wpmi') and dissections.engine = 'sql'
    group by
        dissections.dissection_id,
        top_activations.neuron_id,
        image_concept_probabilities.concept_id

),

in_prior as (

    select
        log_likelihoods.dissection_id,
        log_likelihoods.neuron_id,
        log_likelihoods.concept_id,
        log_likelihoods.log_likelihood,
        dissected_neurons.layer_id,
        dissected_neurons.dead,
        dissections.prior_weight
    from log_likelihoods
    inner join dissections on log_likelihoods.dissection_id = dissections.dissection_id
    inner join dissected_neurons
        on
            log_likelihoods.dissection_id = dissected_neurons.dissection_id
            and log_likelihoods.neuron_id = dissected_neurons.neuron_id
    where dissections.include_dead or not dissected_neurons.dead

),

highest as (

    -- exp(L) of a hundred images underflows; relative to the layer's largest it does not.
    select
        *,
        max(log_likelihood) over (partition by dissection_id, layer_id, concept_id) as ceiling
    from in_prior

),

scored as (

    select
        *,
        ceiling
        + ln(avg(exp(log_likelihood - ceiling)) over (partition by dissection_id, layer_id, concept_id)) as prior
    from highest

)

select
    scored.dissection_id,
    scored.neuron_id,
    scored.concept_id,
    scored.log_likelihood - scored.prior_weight * scored.prior as similarity,
    (scored.log_likelihood - null_moments.mean) / sqrt(nullif(null_moments.variance, 0)) as z
from scored
inner join null_moments
    on
        scored.dissection_id = null_moments.dissection_id
        and scored.concept_id = null_moments.concept_id
where not scored.dead

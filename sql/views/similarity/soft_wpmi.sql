-- Soft-WPMI and WPMI (CLIP-Dissect, arXiv 2204.10965) of a neuron's top images and a concept.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- They measure how much better the concept explains the top images of the neuron than those of the layer's neurons.
-- L = sum over ranks r of ln(1 + p_r (P - 1) + 1e-7), where p_r falls from p_first towards p_last; WPMI is the case
-- p_first = p_last = 1. similarity = L - prior_weight * ln(mean over the layer's neurons of exp L). The mean is over
-- all scored neurons of the layer, so that a score does not depend on which neurons are computed together.
-- z: L minus its mean for a neuron that is unrelated to the images, in standard deviations.
-- A neuron that fires on fewer than top_k images has a shorter list. L of lists of different lengths cannot be
-- compared, because a sum over ten images is far above a sum over a hundred. So the prior is computed for each length.
-- In the prior of a length, a neuron with a list of another length counts with the L that has the same z at this
-- length, but with at most its own L per image, because a short list cannot reach the z of a selective neuron over a
-- long list.

with

lists as (

    -- A neuron that gets no label counts in the prior only if include_dead is set, and then with top_k images.
    select
        dissections.dissection_id,
        dissections.split_id,
        dissections.prior_weight,
        dissections.p_first,
        dissections.p_last,
        dissected_neurons.neuron_id,
        dissected_neurons.layer_id,
        dissected_neurons.dead or dissected_neurons.sparse as unscored,
        case
            when dissected_neurons.dead or dissected_neurons.sparse then dissections.top_k
            else dissected_neurons.list_images
        end as list_images
    from dissections
    inner join dissected_neurons on dissections.dissection_id = dissected_neurons.dissection_id
    where
        dissections.scorer in ('soft_wpmi', 'wpmi')
        and dissections.engine = 'sql'
        and (dissections.include_dead or not (dissected_neurons.dead or dissected_neurons.sparse))

),

in_prior as (

    select
        lists.dissection_id,
        lists.neuron_id,
        lists.layer_id,
        lists.prior_weight,
        lists.unscored,
        lists.list_images,
        image_concept_probabilities.concept_id,
        sum(
            ln(
                1
                + (lists.p_first - (top_activations.rank - 1) / lists.list_images * (lists.p_first - lists.p_last))
                * (image_concept_probabilities.probability - 1)
                + 1e-7
            )
        ) as log_likelihood
    from lists
    inner join top_activations
        on
            lists.split_id = top_activations.split_id
            and lists.neuron_id = top_activations.neuron_id
            and lists.list_images >= top_activations.rank
    inner join image_concept_probabilities
        on
            top_activations.image_id = image_concept_probabilities.image_id
            and lists.dissection_id = image_concept_probabilities.dissection_id
    group by
        lists.dissection_id,
        lists.neuron_id,
        lists.layer_id,
        lists.prior_weight,
        lists.unscored,
        lists.list_images,
        image_concept_probabilities.concept_id

),

moments as (

    select
        dissection_id,
        list_images,
        concept_id,
        mean,
        sqrt(variance) as sd
    from null_moments

),

standing as (

    select
        in_prior.dissection_id,
        in_prior.neuron_id,
        in_prior.layer_id,
        in_prior.prior_weight,
        in_prior.unscored,
        in_prior.list_images,
        in_prior.concept_id,
        in_prior.log_likelihood,
        (in_prior.log_likelihood - moments.mean) / nullif(moments.sd, 0) as z
    from in_prior
    inner join moments
        on
            in_prior.dissection_id = moments.dissection_id
            and in_prior.list_images = moments.list_images
            and in_prior.concept_id = moments.concept_id

),

lengths as (

    select distinct dissection_id, layer_id, list_images
    from lists
    where not unscored

),

carried as (

    select
        standing.dissection_id,
        standing.layer_id,
        standing.concept_id,
        lengths.list_images,
        case
            when standing.list_images = lengths.list_images then standing.log_likelihood
            else least(
                moments.mean + coalesce(standing.z, 0) * moments.sd,
                standing.log_likelihood * lengths.list_images / standing.list_images
            )
        end as log_likelihood
    from standing
    inner join lengths
        on
            standing.dissection_id = lengths.dissection_id
            and standing.layer_id = lengths.layer_id
    inner join moments
        on
            standing.dissection_id = moments.dissection_id
            and lengths.list_images = moments.list_images
            and standing.concept_id = moments.concept_id

),

highest as (

    -- exp(L) of a hundred images underflows; exp of L minus the layer's largest L does not.
    select
        *,
        max(log_likelihood) over (partition by dissection_id, layer_id, list_images, concept_id) as ceiling
    from carried

),

priors as (

    select
        dissection_id,
        layer_id,
        list_images,
        concept_id,
        max(ceiling) + ln(avg(exp(log_likelihood - ceiling))) as prior
    from highest
    group by dissection_id, layer_id, list_images, concept_id

)

select
    standing.dissection_id,
    standing.neuron_id,
    standing.concept_id,
    standing.log_likelihood - standing.prior_weight * priors.prior as similarity,
    standing.z
from standing
inner join priors
    on
        standing.dissection_id = priors.dissection_id
        and standing.layer_id = priors.layer_id
        and standing.list_images = priors.list_images
        and standing.concept_id = priors.concept_id
where not standing.unscored

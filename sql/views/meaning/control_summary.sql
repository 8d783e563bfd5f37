-- How much of each layer is labelled in the trained network and in its controls, by the same scorer and concepts.
-- grain: layer, control, dissection_id
-- public
--
-- control: trained; shuffled: its weights in random order; initialised: fresh weights. A layer that a control calls
-- interpretable as often as the trained network says little about what was learnt.
-- share_calibrated: neurons with a label that chance does not explain. explained: mean correlation, on images that did
-- not choose it, of a neuron and its best concept; explainable: the same for CLIP's whole embedding.
-- explained_by_others: the mean with the label of another neuron of the layer instead.
-- share_unexplained: neurons that no concept of the list explains (reach, in neuron_words), of those with a label.
-- dissection_id: of the trained network. A layer has only the row `trained` if the study asks for no controls.
-- Of several controls of a kind, with other seeds, the newest one counts.

with

labelled_alike as (

    select
        trained.dissection_id,
        others.dissection_id as compared_id,
        control_networks.control
    from shown_dissection
    inner join dissections as trained on shown_dissection.dissection_id = trained.dissection_id
    inner join control_networks on trained.network_id = control_networks.original_id
    inner join dissections as others
        on
            control_networks.network_id = others.network_id
            and trained.split_id = others.split_id
            and trained.clip_id = others.clip_id
            and trained.concept_set_id = others.concept_set_id
            and trained.scorer = others.scorer
            and trained.top_k = others.top_k
            and trained.min_images = others.min_images
            and trained.softmax_scale = others.softmax_scale
            and trained.prior_weight = others.prior_weight
            and trained.p_first = others.p_first
            and trained.p_last = others.p_last
            and trained.rank_fraction = others.rank_fraction
            and trained.rank_power = others.rank_power
            and trained.rank_scale = others.rank_scale
            and trained.include_dead = others.include_dead
            and trained.null_draws = others.null_draws
            and trained.bootstraps = others.bootstraps
            and trained.seed = others.seed
            and trained.rule = others.rule
            and trained.tau = others.tau
            and trained.q_limit = others.q_limit
            and trained.accuracy_images = others.accuracy_images
            and trained.images_neurons = others.images_neurons
    qualify
        row_number() over (
            partition by trained.dissection_id, control_networks.control
            order by others.network_id desc, others.dissection_id desc
        ) = 1

),

compared as (

    select
        dissection_id,
        dissection_id as compared_id,
        'trained' as control
    from shown_dissection
    union all
    select
        dissection_id,
        compared_id,
        control
    from labelled_alike

)

select
    named_neurons.layer,
    compared.control,
    count(*) as neurons,
    count(*) filter (where neuron_labels.dead or neuron_labels.sparse) as num_dead,
    case
        when count(neuron_labels.calibrated) = count(*)
            then count(*) filter (where neuron_labels.calibrated) / count(*)
    end as share_calibrated,
    avg(label_reach.explained) as explained,
    avg(label_reach.explainable) as explainable,
    avg(label_reach.explained_by_other) as explained_by_others,
    count(*) filter (
        where
            label_reach.explained_low <= 0
            or 10 * label_reach.explained * label_reach.explained
            < label_reach.explainable * label_reach.explainable
    )
    / nullif(count(label_reach.explained), 0) as share_unexplained,
    named_neurons.position,
    compared.dissection_id
from compared
inner join neuron_labels on compared.compared_id = neuron_labels.dissection_id
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
left join label_reach
    on
        neuron_labels.dissection_id = label_reach.dissection_id
        and neuron_labels.neuron_id = label_reach.neuron_id
group by named_neurons.layer, compared.control, named_neurons.position, compared.dissection_id

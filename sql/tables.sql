-- Every table of the warehouse: the contract between extract, which fills them, and the views, which read them.
--
-- Ids are integers for joins and mean nothing outside this file; a fingerprint is the SHA-256 of the content
-- itself (weights, pixels, text, parameters). Names are never identities: the same name with other bytes is
-- another row.
--
-- Keys and references are declared here, in comments that warehouse/schema.py reads, and `dissectdb check` looks for
-- rows that break them. A real primary key would make inserts eleven times slower. "; checked by NAME" names the
-- contract of sql/checks that covers a key or reference, where a check by key would be too slow.

create table if not exists warehouse_info (
    key varchar not null,
    value varchar not null
    -- key: key
);
comment on table warehouse_info is
    'Facts about this file: schema_version; tables, views and view:NAME, hashes of the installed SQL';

-- ---------------------------------------------------------------- images

create table if not exists datasets (
    dataset_id integer not null,
    name varchar not null,
    source varchar not null,
    fingerprint varchar not null
    -- key: dataset_id
);
comment on table datasets is 'One row per content of a dataset; a changed image makes a new row';
comment on column datasets.source is 'Path that the images were read from, or the kind of a generator';
comment on column datasets.fingerprint is
    'SHA-256 of every byte that was read, in order, and of the settings that decide what is an image';

create table if not exists classes (
    dataset_id integer not null,  -- references datasets
    position integer not null,
    class varchar not null
    -- key: dataset_id, class
    -- key: dataset_id, position
);
comment on table classes is 'The classes of a dataset, in the order of the dataset';

create table if not exists splits (
    split_id integer not null,
    dataset_id integer not null,  -- references datasets
    split varchar not null,
    block_images integer not null
    -- key: split_id
    -- key: dataset_id, split
);
comment on table splits is 'train, validation and test of a dataset, or the one split all';
comment on column splits.block_images is
    'Images in a block, except in the last one; chosen before the first block is written, and the same ever after';

create table if not exists images (
    image_id integer not null,
    split_id integer not null,  -- references splits
    position integer not null,
    path varchar,
    class varchar,
    sha256 varchar not null,
    width integer,
    height integer,
    thumbnail blob,
    defect varchar,
    source varchar
    -- key: image_id
);
comment on table images is 'One row per image of a dataset, including those with a defect';
comment on column images.position is 'Position in the dataset, from 0, counted over all splits';
comment on column images.path is 'File, or file and line, that it was read from; NULL for a generated image';
comment on column images.class is 'True class by name; NULL where the dataset has none';
comment on column images.sha256 is
    'SHA-256 of the decoded pixels and their shape; of the bytes if they cannot be decoded';
comment on column images.thumbnail is 'PNG of an image of at most 64 pixels a side, else a JPEG of at most 224 (older ones: a PNG of at most 64); NULL if the image cannot be decoded';
comment on column images.defect is
    'NULL, or why no network is run on the image: unreadable: …, blank, blank: …, repeat of <position>';
comment on column images.source is 'Which of the united sources of its dataset it is from; NULL if there is only one';

create table if not exists image_attributes (
    image_id integer not null,  -- references images
    attribute varchar not null,
    value varchar not null
    -- key: image_id, attribute
);
comment on table image_attributes is
    'What a source says about an image beside its class: text, or a number as text; no row where it says nothing';
comment on column image_attributes.attribute is 'Its name in the source, such as group, age or site';

create table if not exists left_out (
    dataset_id integer not null,  -- references datasets
    reason varchar not null,
    detail varchar not null,
    files bigint not null
    -- key: dataset_id, reason, detail
);
comment on table left_out is 'Files in the folder of a dataset that are not images of it, counted by reason';
comment on column left_out.reason is 'ending, hidden, not a file, outside a class folder';
comment on column left_out.detail is 'The ending, or the folder of the images that are in no class folder; else empty';

-- ---------------------------------------------------------------- concepts and CLIP

create table if not exists concept_sets (
    concept_set_id integer not null,
    name varchar not null,
    templates varchar[] not null,
    fingerprint varchar not null
    -- key: concept_set_id
);
comment on table concept_sets is 'A list of concepts, with the prompt templates that it is embedded with';
comment on column concept_sets.templates is 'Prompts with {} for the concept; their embeddings are averaged';
comment on column concept_sets.fingerprint is 'SHA-256 of concepts, their classes and templates, in order';

create table if not exists concepts (
    concept_id integer not null,
    concept_set_id integer not null,  -- references concept_sets
    position integer not null,
    concept varchar not null,
    category varchar
    -- key: concept_id
    -- key: concept_set_id, position
    -- key: concept_set_id, concept
);
comment on table concepts is 'The concepts of a set, in the order of the set';
comment on column concepts.category is
    'The category that the set''s file puts it into; NULL if there is none, or if the set was entered before schema 6';

create table if not exists concept_classes (
    concept_id integer not null,  -- references concepts
    class varchar not null
    -- key: concept_id, class
);
comment on table concept_classes is 'The classes that a concept describes, by name';

create table if not exists clips (
    clip_id integer not null,
    name varchar not null,
    weights varchar not null,
    logit_scale double not null,
    logit_bias double,
    preprocessing varchar not null,
    fingerprint varchar not null
    -- key: clip_id
);
comment on table clips is 'CLIP models; other weights make another row';
comment on column clips.weights is 'Name of pretrained weights, or a file';
comment on column clips.logit_scale is 'Factor on cosines that the model was trained with, after exponentiation';
comment on column clips.logit_bias is 'Bias on the logits of SigLIP; NULL for CLIP';
comment on column clips.preprocessing is 'JSON: size, resize mode, interpolation, mean, std';

create table if not exists image_embeddings (
    clip_id integer not null,  -- references clips
    image_id integer not null,  -- references images
    embedding float[] not null
    -- key: clip_id, image_id; checked by image_embeddings_match_the_ledger
);
comment on table image_embeddings is 'CLIP image embeddings of unit length';

create table if not exists concept_embeddings (
    clip_id integer not null,  -- references clips
    concept_id integer not null,  -- references concepts
    embedding float[] not null
    -- key: clip_id, concept_id
);
comment on table concept_embeddings is 'CLIP text embeddings, averaged over templates, of unit length';

-- ---------------------------------------------------------------- networks

create table if not exists networks (
    network_id integer not null,
    name varchar not null,
    architecture varchar not null,
    weights varchar,
    preprocessing varchar not null,
    classes varchar[] not null,
    parent_network_id integer,  -- references networks
    edit_id integer,  -- references edits
    fingerprint varchar not null
    -- key: network_id
);
comment on table networks is 'Probed networks; an edited network is one more row';
comment on column networks.weights is 'File of the weights, or pretrained, or random';
comment on column networks.preprocessing is 'JSON: size, mode, resize, interpolation, mean, std';
comment on column networks.classes is
    'Names of the outputs, in the order of the logits; an output that matches a class of the dataset has its name; empty without a classifier';
comment on column networks.parent_network_id is 'The network that was edited; NULL for an original';
comment on column networks.edit_id is 'The edit that made it; NULL for an original';
comment on column networks.fingerprint is
    'SHA-256 of architecture, arguments, weights, classes and preprocessing; of an edited network, of the original''s fingerprint and the edit''s';

create table if not exists layers (
    layer_id integer not null,
    network_id integer not null,  -- references networks
    layer varchar not null,
    pooling varchar not null,
    position integer not null,
    fingerprint varchar not null,
    call integer
    -- key: layer_id
);
comment on table layers is 'Layers whose output is recorded';
comment on column layers.layer is 'Dotted module path, as in named_modules()';
comment on column layers.pooling is 'avg or max over a map or tokens, cls for token 0, none for a linear layer; avg of heads if units are heads';
comment on column layers.position is 'Position of the module in named_modules(): a smaller one is nearer the image';
comment on column layers.call is 'Which call of the module in one forward pass, from 1; NULL: the last';

create table if not exists neurons (
    neuron_id integer not null,
    layer_id integer not null,  -- references layers
    unit integer not null,
    weight_l1 double,
    weight_l2 double,
    bias double
    -- key: neuron_id
);
comment on table neurons is 'Channels of a convolution, outputs of a linear layer or attention heads; the ids of a layer are contiguous';
comment on column neurons.unit is 'Index in the layer, from 0';
comment on column neurons.weight_l1 is
    'Sum of the absolute weights of the neuron''s row; NULL if the layer has no weights';
comment on column neurons.weight_l2 is 'Euclidean norm of that row';

create table if not exists activations (
    neuron_id integer not null,  -- references neurons; checked by activations_are_of_known_neurons_and_images
    image_id integer not null,  -- references images; checked by activations_are_of_known_neurons_and_images
    value float not null
    -- key: neuron_id, image_id; checked by activations_match_the_ledger
);
comment on table activations is 'Pooled output of a neuron for an image, before any following non-linearity';
comment on column activations.value is 'Never NULL, NaN or infinite';

create table if not exists block_tops (
    neuron_id integer not null,  -- references neurons; checked by block_tops_are_activations
    image_id integer not null,  -- references images; checked by block_tops_are_activations
    value float not null
    -- key: neuron_id, image_id; checked by block_tops_are_activations
);
comment on table block_tops is
    'The 256 highest activations of each neuron in each block of images, or all; the best of all images are among them';

create table if not exists block_sums (
    split_id integer not null,  -- references splits; checked by block_sums_match_the_ledger
    neuron_id integer not null,  -- references neurons; checked by block_sums_match_the_ledger
    block integer not null,
    images integer not null,
    total double not null,
    total_squares double not null,
    lowest float not null,
    highest float not null,
    distinct_values integer not null
    -- key: split_id, neuron_id, block
);
comment on table block_sums is
    'Statistics of the activations of a neuron over a block of images; they add up over blocks';
comment on column block_sums.block is 'As in extraction_blocks';
comment on column block_sums.total is 'Sum of the activations';
comment on column block_sums.total_squares is 'Sum of their squares';
comment on column block_sums.distinct_values is 'Number of different activations; 256 means 256 or more';

create table if not exists block_values (
    split_id integer not null,  -- references splits
    neuron_id integer not null,  -- references neurons
    value float not null
    -- no key: a value is there once for each block that it occurs in
);
comment on table block_values is 'The different activations of a neuron in a block, if there are fewer than 256';

create table if not exists activation_maps (
    neuron_id integer not null,  -- references neurons; checked by activation_maps_are_whole
    image_id integer not null,  -- references images; checked by activation_maps_are_whole
    grid_rows integer not null,
    grid_columns integer not null,
    top_row integer not null,
    top_column integer not null,
    low float not null,
    high float not null,
    cells utinyint[] not null
    -- key: neuron_id, image_id; checked by activation_maps_are_whole
);
comment on table activation_maps is
    'Where in the image a neuron responds: a small grid for each of its best images; no row for layers without places';
comment on column activation_maps.grid_rows is 'Rows of the grid, at most 8; several rows of the layer''s map may be one';
comment on column activation_maps.top_row is 'Row of the grid''s highest cell, from 0; with top_column, the first of equal ones';
comment on column activation_maps.low is 'The lowest cell: what 0 stands for in cells';
comment on column activation_maps.high is 'The highest cell: what 255 stands for in cells';
comment on column activation_maps.cells is
    'The grid row by row: 255 times the cell''s position between low and high, rounded; all 0 if they are equal';

create table if not exists map_values (
    split_id integer not null,  -- references splits
    neuron_id integer not null,  -- references neurons
    block integer not null,
    sampled integer not null,
    value float not null
    -- no key: two cells may have the same value
);
comment on table map_values is
    'The highest of a sample of cells from the activation maps of all images: enough for the top 1 %';
comment on column map_values.block is 'As in extraction_blocks';
comment on column map_values.sampled is 'How many cells of the neuron were sampled in the block';

create table if not exists seen_parts (
    network_id integer not null,  -- references networks
    width integer not null,
    height integer not null,
    part_top double not null,
    part_bottom double not null,
    part_left double not null,
    part_right double not null
    -- key: network_id, width, height
);
comment on table seen_parts is
    'Which part of an image of some width and height a network sees after resizing and cropping, as shares of both';
comment on column seen_parts.part_top is 'Where the part begins, from 0; below 0 if the network sees padding there';
comment on column seen_parts.part_bottom is 'Where the part ends; 1 is the lower edge';

create table if not exists predictions (
    network_id integer not null,  -- references networks
    image_id integer not null,  -- references images
    class varchar not null,
    confidence float not null,
    loss float,
    probabilities float[] not null
    -- key: network_id, image_id; checked by predictions_match_the_ledger
);
comment on table predictions is 'The output of a network for an image';
comment on column predictions.class is 'Class of the largest logit';
comment on column predictions.confidence is 'Its probability';
comment on column predictions.loss is 'Cross-entropy in nats; NULL if the network has no output for the true class';
comment on column predictions.probabilities is 'Softmax of the logits, in the order of networks.classes';

-- ---------------------------------------------------------------- what was run

create table if not exists extractions (
    extraction_id integer not null,
    target varchar not null,
    split_id integer not null,  -- references splits
    network_id integer,  -- references networks
    layer_id integer,  -- references layers
    clip_id integer,  -- references clips
    device varchar not null,
    precision varchar not null,
    versions varchar not null,
    started_at timestamp not null,
    fingerprint varchar not null
    -- key: extraction_id
);
comment on table extractions is 'One row per layer, its maps, predictions or image embeddings that were computed over a split';
comment on column extractions.target is 'activations or activation_maps (layer_id), predictions (network_id) or image_embeddings (clip_id)';
comment on column extractions.versions is
    'JSON: extraction (raised when the code that computes changes its results), torch, open_clip, python, device, threads, deterministic';

create table if not exists extraction_blocks (
    extraction_id integer not null,  -- references extractions
    block integer not null,
    images integer not null,
    seconds double not null,
    finished_at timestamp not null
    -- key: extraction_id, block; checked by ledger_blocks_have_no_gaps
);
comment on table extraction_blocks is 'The ledger: a block is listed exactly when its rows are in their table';
comment on column extraction_blocks.block is
    'From 0, over the images of the split without a defect, in order of position';
comment on column extraction_blocks.seconds is
    'Wall time of the block; everything that was computed in the same pass has the same time';

-- ---------------------------------------------------------------- dissections

create table if not exists dissections (
    dissection_id integer not null,
    network_id integer not null,  -- references networks
    split_id integer not null,  -- references splits
    clip_id integer not null,  -- references clips
    concept_set_id integer not null,  -- references concept_sets
    scorer varchar not null,
    engine varchar not null,
    top_k integer not null,
    softmax_scale double not null,
    prior_weight double not null,
    p_first double not null,
    p_last double not null,
    rank_fraction double not null,
    rank_power double not null,
    rank_scale double not null,
    include_dead boolean not null,
    kept_concepts integer not null,
    null_draws integer not null,
    bootstraps integer not null,
    seed integer not null,
    rule varchar not null,
    tau double not null,
    q_limit double not null,
    accuracy_images integer not null,
    images_neurons integer not null,
    created_at timestamp not null,
    fingerprint varchar not null,
    min_images integer
    -- key: dissection_id
);
comment on table dissections is
    'One labelling of the neurons of a network, with every parameter that its numbers depend on';
comment on column dissections.split_id is 'The probing set';
comment on column dissections.scorer is 'soft_wpmi, wpmi, cos, cos_cubed, rank_reorder, pearson or presence';
comment on column dissections.engine is
    'What computes the scores: sql (the views) or kernel (torch, into kernel_scores)';
comment on column dissections.top_k is
    'm: images per neuron that soft_wpmi and wpmi use; fewer if the neuron fires on fewer';
comment on column dissections.softmax_scale is 'a: factor on cosines before the softmax over concepts';
comment on column dissections.prior_weight is 'lambda: weight of the prior over neurons of the layer';
comment on column dissections.p_first is 'p0: weight of the most active image; 1 for wpmi';
comment on column dissections.p_last is 'p1: weight at the end of the top_k; 1 for wpmi';
comment on column dissections.rank_fraction is 'rank_reorder: share of the images that are reordered';
comment on column dissections.rank_power is 'rank_reorder: p, the power of differences';
comment on column dissections.rank_scale is 'rank_reorder: q, the power of the mean cosine';
comment on column dissections.min_images is 'A neuron that fires on fewer images gets no label';
comment on column dissections.include_dead is 'Whether dead and sparse neurons count in the prior, as in CLIP-Dissect';
comment on column dissections.kept_concepts is
    'Number of best concepts per neuron that the kernel stores; SQL stores all';
comment on column dissections.null_draws is 'Number of draws behind the null distribution that p comes from';
comment on column dissections.bootstraps is 'Number of resamples of the probing images behind bootstrap_share; 0: none';
comment on column dissections.seed is 'Seed of every random draw of this dissection';
comment on column dissections.rule is 'When a label is interpretable: q (q at most q_limit) or tau (score above tau)';
comment on column dissections.tau is 'Threshold of the score for the rule tau';
comment on column dissections.q_limit is 'Highest false-discovery rate for the rule q';
comment on column dissections.accuracy_images is 'Number of top images whose classes give a neuron''s accuracy';
comment on column dissections.images_neurons is
    'Number of most active interpretable neurons per layer that give an image its concepts';

create table if not exists rank_permutations (
    dissection_id integer not null,  -- references dissections
    permutation integer not null,
    place integer not null,
    taken integer not null
    -- key: dissection_id, permutation, place
);
comment on table rank_permutations is 'Random orders of the best images that rank_reorder compares a neuron with';
comment on column rank_permutations.place is 'From 0: the least active of the best images';
comment on column rank_permutations.taken is 'The place whose activation comes to this place in the random order';

-- ---------------------------------------------------------------- what torch computes for dissections

create table if not exists kernel_scores (
    dissection_id integer not null,  -- references dissections
    neuron_id integer not null,  -- references neurons
    concept_id integer not null,  -- references concepts
    similarity double not null,
    z double
    -- key: dissection_id, neuron_id, concept_id
);
comment on table kernel_scores is
    'Scores of dissections whose engine is kernel: equal to those of the views, for more concepts';

create table if not exists null_samples (
    dissection_id integer not null,  -- references dissections
    layer_id integer not null,  -- references layers
    concept_id integer not null,  -- references concepts
    mean double not null,
    sd double not null,
    null_group integer
    -- key: dissection_id, layer_id, null_group, concept_id
);
comment on table null_samples is
    'Scores of rank_reorder when images are drawn at random, because its null has no formula';

create table if not exists null_quantiles (
    dissection_id integer not null,  -- references dissections
    layer_id integer not null,  -- references layers
    z double not null,
    p double not null,
    null_group integer
    -- key: dissection_id, layer_id, null_group, z; checked by null_quantiles_fall
);
comment on table null_quantiles is
    'How often a neuron that is unrelated to the images gets a label with at least this z';
comment on column null_quantiles.null_group is
    'The group of neurons that this null is for: see the view dissected_neurons';
comment on column null_quantiles.p is
    'Falls as z rises; a label has the p of the largest z here that its own z reaches';

create table if not exists labelled_layers (
    dissection_id integer not null,  -- references dissections
    layer_id integer not null,  -- references layers
    neurons integer not null,
    null_groups bigint not null
    -- key: dissection_id, layer_id
);
comment on table labelled_layers is
    'The ledger of labels: a layer is listed exactly when its null and the checks of its labels are stored';
comment on column labelled_layers.neurons is 'Number of its neurons that get a label';
comment on column labelled_layers.null_groups is
    'Sum of their different null_group, and 10^12 times the version of the formulas; if unlike today''s, the labels and what was computed for them are out of date';

create table if not exists label_checks (
    dissection_id integer not null,  -- references dissections
    neuron_id integer not null,  -- references neurons
    concept_id integer not null,  -- references concepts
    z_within_class double,
    split_half_agrees boolean,
    bootstrap_share double,
    p_within double,
    p double
    -- key: dissection_id, neuron_id, concept_id
);
comment on table label_checks is
    'Whether a label depends on the classes of the images, or on which images were in the probing set';
comment on column label_checks.concept_id is 'The label that was checked';
comment on column label_checks.z_within_class is
    'z when images are exchanged only within their class (rank_reorder: from draws); NULL without classes';
comment on column label_checks.p_within is
    'How often a neuron that knows only the classes of the images gets a label with at least this z; NULL without classes';
comment on column label_checks.split_half_agrees is
    'Whether both halves of the probing images give the same label; NULL if the neuron fires on too few of either, or if activations are not kept and too few of its stored images are of either';
comment on column label_checks.bootstrap_share is
    'Share of resamples of the probing images that give the label, of those that label the neuron; NULL without any';
comment on column label_checks.p is
    'p of the label on one image of each group; NULL if no two images are of one group (p is then in null_quantiles), or if there are fewer than 20 groups';

create table if not exists label_words (
    dissection_id integer not null,  -- references dissections
    neuron_id integer not null,  -- references neurons
    place integer not null,
    concept_id integer not null,  -- references concepts
    weight double not null,
    gain double,
    gain_low double,
    gain_high double
    -- key: dissection_id, neuron_id, place
);
comment on table label_words is 'The words that explain a neuron together: its label, and up to two that add to it';
comment on column label_words.place is '1: the label';
comment on column label_words.weight is
    'Of the concept''s presence, where presences and activations have standard deviation 1; from the first half of the images';
comment on column label_words.gain is
    'How much the correlation on the second half of the images rises with this word; gain_low to gain_high: 95 % interval; NULL for the label';

create table if not exists label_reach (
    dissection_id integer not null,  -- references dissections
    neuron_id integer not null,  -- references neurons
    explained double not null,
    explained_low double not null,
    explained_high double not null,
    explainable double not null,
    explainable_low double not null,
    explainable_high double not null,
    explained_by_other double
    -- key: dissection_id, neuron_id
);
comment on table label_reach is 'How much of a neuron one concept of the list explains, and how much CLIP''s whole embedding does';
comment on column label_reach.explained is
    'Correlation on the second half of the images of the activations and the concept that correlates most on the first; 95 % interval: explained_low to explained_high';
comment on column label_reach.explainable is
    'Correlation on the second half of the images with a ridge regression on CLIP''s image embedding, fitted to the first';
comment on column label_reach.explained_by_other is
    'Correlation on the second half of the images with the label of another neuron of the layer, drawn at random; NULL if it has no other';

create table if not exists control_networks (
    network_id integer not null,  -- references networks
    original_id integer not null,  -- references networks
    control varchar not null,
    seed integer not null
    -- key: network_id
);
comment on table control_networks is
    'Networks that are dissected beside a trained one, to show what its scores are worth';
comment on column control_networks.original_id is 'The trained network';
comment on column control_networks.control is
    'shuffled: the numbers of each weight and bias of the original in random order; initialised: fresh weights';

-- ---------------------------------------------------------------- how right labels are

create table if not exists label_measures (
    dissection_id integer not null,  -- references dissections
    neuron_id integer not null,  -- references neurons
    judged_on varchar not null,
    reference varchar not null,
    concept_id integer not null,  -- references concepts
    same_halves integer,
    images integer not null,
    share double,
    pearson double,
    pearson_low double,
    pearson_high double,
    ap double,
    ap_low double,
    ap_high double,
    ap_corrected double,
    ap_corrected_low double,
    ap_corrected_high double,
    f1 double,
    f1_low double,
    f1_high double,
    iou double,
    iou_low double,
    iou_high double,
    auc double,
    auc_low double,
    auc_high double
    -- key: dissection_id, neuron_id, judged_on, reference
);
comment on table label_measures is
    'How well a label describes its neuron on images that played no part in the label; low and high: 95 % intervals';
comment on column label_measures.judged_on is
    'halves: the label of one half of the probing images on the other and the reverse, averaged; else a split of its own';
comment on column label_measures.reference is
    'clip: how much of the concept CLIP sees in an image; other clip: how much the CLIP of judge_clips sees; class: whether the true class is one of the concept''s';
comment on column label_measures.concept_id is 'The label of all probing images';
comment on column label_measures.same_halves is 'Of the labels of the two halves, how many are that label; NULL: a split';
comment on column label_measures.images is 'Number of images that it was judged on';
comment on column label_measures.share is 'The share of them with the concept';
comment on column label_measures.pearson is
    'The correlation of the activations with how much of the concept is in the image';
comment on column label_measures.ap is
    'Average precision: from the highest activation down, the share of images with the concept so far, averaged over the images with it';
comment on column label_measures.ap_corrected is
    '(ap - share) / (1 - share): 0 by chance, 1 at best';
comment on column label_measures.f1 is
    '2 both / (picked + with the concept), of the images that a threshold of the activation picks; it was chosen on the images of the label';
comment on column label_measures.iou is
    'The images picked and with the concept, over those that are either';
comment on column label_measures.auc is
    'How often an image with the concept has a higher activation than one without';

create table if not exists judged_layers (
    dissection_id integer not null,  -- references dissections
    layer_id integer not null,  -- references layers
    judged_on varchar not null,
    neurons integer not null
    -- key: dissection_id, layer_id, judged_on
);
comment on table judged_layers is 'The ledger of label_measures: a layer is listed exactly when its labels were judged';
comment on column judged_layers.neurons is 'Number of its labels; 0 where activations are not kept, which nothing can judge';

create table if not exists judge_clips (
    dissection_id integer not null,  -- references dissections
    split_id integer not null,  -- references splits
    clip_id integer not null  -- references clips
    -- key: dissection_id, split_id
);
comment on table judge_clips is
    'The CLIP, not the one that labels, by which the labels of a dissection are judged too: it has seen all images of the split';

-- ---------------------------------------------------------------- edits

create table if not exists edits (
    edit_id integer not null,
    name varchar not null,
    network_id integer not null,  -- references networks
    dissection_id integer not null,  -- references dissections
    layer varchar not null,
    rule varchar not null,
    tau double,
    factor double,
    factor_down double,
    scale_bias boolean not null,
    concepts varchar[],
    sql varchar,
    control varchar,
    control_of integer,  -- references edits
    draw integer,
    created_at timestamp not null,
    fingerprint varchar not null
    -- key: edit_id
);
comment on table edits is 'Weight edits that were tried, and the controls that a chosen edit is compared with';
comment on column edits.network_id is 'The network that is edited';
comment on column edits.layer is
    'The modules whose weights are scaled; edit_layers lists the layers that the scales come from';
comment on column edits.rule is
    'paper (score above tau), calibrated (q within the limit), weight_l1 (above the mean of the layer), proportional (to the score), ablate, or sql (a query of the user)';
comment on column edits.tau is 'Threshold of the rule; NULL: the rule has none';
comment on column edits.factor is 'Factor on the weight rows that the rule picks; NULL: the rule has none';
comment on column edits.factor_down is 'Divisor of the other weight rows; NULL: the rule has none';
comment on column edits.scale_bias is 'Whether biases are scaled like their weight rows';
comment on column edits.concepts is 'ablate: the labels whose neurons are silenced; NULL: every label';
comment on column edits.sql is
    'The user''s query for layer, unit and scale; NULL: the view weight_scales gives the scales';
comment on column edits.control is
    'NULL: an edit of its own; else the kind of control: all, random, matched, shuffled or bias (see edit_controls)';
comment on column edits.control_of is 'The edit that a control belongs to';
comment on column edits.draw is 'Number of a random control among those of its kind, from 1';

create table if not exists edit_layers (
    edit_id integer not null,  -- references edits
    layer_id integer not null  -- references layers
    -- key: edit_id, layer_id
);
comment on table edit_layers is 'The layers whose weights an edit scales';

create table if not exists edit_scales (
    edit_id integer not null,  -- references edits
    neuron_id integer not null,  -- references neurons
    scale double not null,
    bias_scale double not null
    -- key: edit_id, neuron_id; checked by edit_scales_cover_their_layers
);
comment on table edit_scales is 'The factor on each weight row and bias, as it was applied';

create table if not exists edit_predictions (
    edit_id integer not null,  -- references edits
    image_id integer not null,  -- references images
    class varchar not null,
    confidence float not null,
    loss float
    -- key: edit_id, image_id; checked by edit_predictions_match_the_ledger
);
comment on table edit_predictions is
    'The output of an edited network for an image, for every edit that was tried; columns as in predictions';

create table if not exists edit_blocks (
    edit_id integer not null,  -- references edits
    split_id integer not null,  -- references splits
    block integer not null,
    images integer not null,
    seconds double not null,
    finished_at timestamp not null
    -- key: edit_id, split_id, block
);
comment on table edit_blocks is 'The ledger of edit_predictions, as extraction_blocks is of the rest';
comment on column edit_blocks.seconds is 'Wall time of the block; edits that were computed together have the same time';

create table if not exists edit_choices (
    edit_id integer not null,  -- references edits
    split_id integer not null,  -- references splits
    edits_tried integer not null,
    chosen_at timestamp not null
    -- key: edit_id, split_id
);
comment on table edit_choices is 'Edits that were chosen as the best of those tried, and the split that decided';
comment on column edit_choices.edits_tried is 'Number of edits of that network that were tried';

create table if not exists split_openings (
    edit_id integer not null,  -- references edits
    split_id integer not null,  -- references splits
    opened_at timestamp not null
    -- key: edit_id, split_id
);
comment on table split_openings is
    'When an edit was first measured on test images; each further opening makes the next result less reliable';

create table if not exists edit_intervals (
    edit_id integer not null,  -- references edits
    split_id integer not null,  -- references splits
    low double not null,
    high double not null,
    loss_low double,
    loss_high double,
    bootstraps integer not null,
    seed integer not null
    -- key: edit_id, split_id
);
comment on table edit_intervals is
    'Paired bootstrap 95 % intervals of the effect of an edit: images are resampled together with both predictions';
comment on column edit_intervals.low is 'Lower end for the difference in accuracy, after minus before';
comment on column edit_intervals.loss_low is 'Lower end for the difference in mean loss; NULL if losses are unknown';

create table if not exists edit_causes (
    edit_id integer not null,  -- references edits
    image_id integer not null,  -- references images
    neuron_id integer not null,  -- references neurons
    rank integer not null,
    contribution double not null
    -- key: edit_id, image_id, neuron_id
    -- key: edit_id, image_id, rank
);
comment on table edit_causes is 'For images whose class a chosen edit changed: the neurons that contributed most';
comment on column edit_causes.contribution is
    'To the new class''s logit minus the old one''s, by integrated gradients along the edit; over all neurons they sum to its change';

-- ---------------------------------------------------------------- effects of neurons

create table if not exists ablations (
    ablation_id integer not null,
    network_id integer not null,  -- references networks
    split_id integer not null,  -- references splits
    layer_id integer not null,  -- references layers
    neuron_id integer,  -- references neurons
    dissection_id integer,  -- references dissections
    concept_id integer,  -- references concepts
    draw integer,
    neurons integer not null,
    images integer not null,
    seed integer not null,
    fingerprint varchar not null
    -- key: ablation_id
);
comment on table ablations is 'Neurons whose output was set to 0, alone or several at once, over images of a split';
comment on column ablations.neuron_id is 'The neuron; NULL if several were silenced';
comment on column ablations.dissection_id is
    'The dissection that says which neurons have the concept; NULL for a single neuron';
comment on column ablations.concept_id is
    'The concept whose neurons were silenced; NULL for a single neuron and for random neurons';
comment on column ablations.draw is 'Number of a draw of random neurons of the layer, from 1; NULL: not random';
comment on column ablations.neurons is 'Number of neurons silenced at once';
comment on column ablations.images is
    'Number of images it was measured on: those of the split with a known class, or a sample of them';

create table if not exists ablation_effects (
    ablation_id integer not null,  -- references ablations
    class varchar not null,
    images integer not null,
    gained integer not null,
    lost integer not null,
    flips integer not null,
    loss_change double not null,
    loss_change_sd double not null
    -- key: ablation_id, class
);
comment on table ablation_effects is 'Effect of an ablation on the images of a true class';
comment on column ablation_effects.gained is 'Images that became correct';
comment on column ablation_effects.lost is 'Images that became wrong';
comment on column ablation_effects.flips is 'Images whose predicted class changed';
comment on column ablation_effects.loss_change is 'Mean change of the loss in nats, after minus before';
comment on column ablation_effects.loss_change_sd is 'Its standard deviation over the images';

-- ---------------------------------------------------------------- labels of other methods, judged

create table if not exists rivals (
    rival_id integer not null,
    network_id integer not null,  -- references networks
    split_id integer not null,  -- references splits
    clip_id integer not null,  -- references clips
    method varchar not null,
    control varchar not null,
    dissection_id integer  -- references dissections
    -- key: rival_id
    -- key: network_id, split_id, clip_id, method, control
);
comment on table rivals is 'Methods whose labels of a network''s neurons are judged by one CLIP on the images of one split';
comment on column rivals.method is 'The name of the file of labels, or scorer and concept set of a dissection';
comment on column rivals.control is
    'none: the method''s own labels; random: drawn from all its labels; shuffled: exchanged among its neurons';
comment on column rivals.dissection_id is 'The dissection that the labels come from; NULL: a file';

create table if not exists rival_layers (
    rival_id integer not null,  -- references rivals
    layer_id integer not null,  -- references layers
    neurons integer not null,
    choices integer not null,
    fingerprint varchar not null
    -- key: rival_id, layer_id
);
comment on table rival_layers is 'The ledger of judged labels: a layer is listed exactly when its labels are judged';
comment on column rival_layers.neurons is 'Number of neurons that the method labels';
comment on column rival_layers.choices is 'Number of labels that the method chooses from; p is corrected for them';
comment on column rival_layers.fingerprint is 'SHA-256 of labels, prompts and classes; other labels are judged anew';

create table if not exists rival_texts (
    rival_text_id integer not null,
    clip_id integer not null,  -- references clips
    templates varchar[] not null,
    text varchar not null,
    embedding float[] not null
    -- key: rival_text_id
    -- key: clip_id, templates, text
);
comment on table rival_texts is 'Labels that are judged, and names of outputs, with their CLIP embeddings of unit length';
comment on column rival_texts.templates is 'Prompts with {} for the text; their embeddings are averaged';

create table if not exists rival_labels (
    rival_id integer not null,  -- references rivals
    neuron_id integer not null,  -- references neurons
    rival_text_id integer not null,  -- references rival_texts
    output varchar,
    names_output boolean,
    output_similarity double
    -- key: rival_id, neuron_id
);
comment on table rival_labels is 'The label that a method gives a neuron';
comment on column rival_labels.output is 'Name of the output that the neuron is; NULL in other layers';
comment on column rival_labels.names_output is 'Whether label and name are equal but for case, spaces and punctuation';
comment on column rival_labels.output_similarity is 'Cosine of the CLIP embeddings of label and name';

create table if not exists rival_quality (
    rival_id integer not null,  -- references rivals
    neuron_id integer not null,  -- references neurons
    reference varchar not null,
    pearson double,
    ap double,
    ap_corrected double,
    f1 double,
    iou double,
    auc double,
    z double,
    p double,
    q double
    -- key: rival_id, neuron_id, reference
);
comment on table rival_quality is 'How well a label describes what its neuron does; NULL where it cannot be known';
comment on column rival_quality.reference is
    'What says where the concept is: clip (its presence by CLIP), or class (the true classes that the label stands for)';
comment on column rival_quality.pearson is 'Correlation of the activation with the presence of the concept';
comment on column rival_quality.ap is 'Average precision of the activation for the images with the concept';
comment on column rival_quality.ap_corrected is 'It, corrected for chance: (ap - share) / (1 - share)';
comment on column rival_quality.f1 is 'F1 of the images above a threshold, which is chosen on the other half of the images';
comment on column rival_quality.iou is 'Intersection over union of the same';
comment on column rival_quality.auc is 'Area under the ROC curve of the activation for the images with the concept';
comment on column rival_quality.z is
    'Their covariance in standard deviations, when images are shuffled within their classes (without classes: all)';
comment on column rival_quality.p is 'One-sided, of the normal distribution, corrected for the choice among the labels';
comment on column rival_quality.q is 'p after Benjamini and Hochberg over the labels of the method in the layer';

create table if not exists rival_intervals (
    rival_id integer not null,  -- references rivals
    other_rival_id integer,  -- references rivals
    layer_id integer not null,  -- references layers
    reference varchar not null,
    measure varchar not null,
    neurons integer not null,
    value double not null,
    low double,
    high double
    -- key: rival_id, other_rival_id, layer_id, reference, measure
);
comment on table rival_intervals is 'Means of measures over neurons, and paired differences, with 95 % bootstrap intervals';
comment on column rival_intervals.other_rival_id is 'The method that is subtracted, on the neurons of both; NULL: the mean';
comment on column rival_intervals.reference is 'clip or class, as in rival_quality; output: the name of the output';
comment on column rival_intervals.measure is 'A column of rival_quality; of output: names_output or output_similarity';
comment on column rival_intervals.low is 'Neurons are resampled; NULL with fewer than two';

-- ---------------------------------------------------------------- upkeep

create table if not exists table_versions (
    table_name varchar not null,
    version bigint not null
    -- key: table_name
);
comment on table table_versions is
    'Number of commits that wrote to each table; a build compares it to find stale views';

create table if not exists view_builds (
    view varchar not null,
    fingerprint varchar not null,
    content varchar not null,
    row_count bigint not null,
    seconds double not null,
    built_at timestamp not null
    -- key: view
);
comment on table view_builds is 'The materialised views: the fingerprint of their inputs and a hash of their rows';

create table if not exists view_parts (
    view varchar not null,
    dissection_id integer not null,  -- no reference: a deleted dissection keeps its row until the next build
    fingerprint varchar not null
    -- key: view, dissection_id
);
comment on table view_parts is
    'For materialised views that are stored by dissection: the fingerprint of the inputs of each part';

create table if not exists completed_runs (
    fingerprint varchar not null,
    command varchar not null,
    files varchar[] not null,
    inputs varchar not null,
    state varchar not null,
    result varchar not null,
    completed_at timestamp not null
    -- key: fingerprint
);
comment on table completed_runs is
    'Runs that left nothing to do. The same run is done if its inputs and the state of the warehouse are the same';
comment on column completed_runs.fingerprint is 'SHA-256 of the command, its options and the part of the study it reads';
comment on column completed_runs.files is 'Files that count beside those that the study names, such as the network''s code';
comment on column completed_runs.inputs is 'SHA-256 of the size and times of every file, of the program and its packages';
comment on column completed_runs.state is 'SHA-256 of the versions of the tables that the result depends on';
comment on column completed_runs.result is 'What the run came to, as JSON: ids in this file, and what it said';

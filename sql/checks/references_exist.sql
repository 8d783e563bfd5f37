-- A row is an id that a table names and that does not exist: a join would lose those rows in silence.

select 'classes' as table_name, 'dataset_id' as key, dataset_id as id, count(*) as times
from classes
where dataset_id is not null and dataset_id not in (select dataset_id from datasets)
group by dataset_id
union all
select 'splits' as table_name, 'dataset_id' as key, dataset_id as id, count(*) as times
from splits
where dataset_id is not null and dataset_id not in (select dataset_id from datasets)
group by dataset_id
union all
select 'left_out' as table_name, 'dataset_id' as key, dataset_id as id, count(*) as times
from left_out
where dataset_id is not null and dataset_id not in (select dataset_id from datasets)
group by dataset_id
union all
select 'images' as table_name, 'split_id' as key, split_id as id, count(*) as times
from images
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'concepts' as table_name, 'concept_set_id' as key, concept_set_id as id, count(*) as times
from concepts
where concept_set_id is not null and concept_set_id not in (select concept_set_id from concept_sets)
group by concept_set_id
union all
select 'concept_classes' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from concept_classes
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'image_embeddings' as table_name, 'clip_id' as key, clip_id as id, count(*) as times
from image_embeddings
where clip_id is not null and clip_id not in (select clip_id from clips)
group by clip_id
union all
select 'image_embeddings' as table_name, 'image_id' as key, image_id as id, count(*) as times
from image_embeddings
where image_id is not null and image_id not in (select image_id from images)
group by image_id
union all
select 'concept_embeddings' as table_name, 'clip_id' as key, clip_id as id, count(*) as times
from concept_embeddings
where clip_id is not null and clip_id not in (select clip_id from clips)
group by clip_id
union all
select 'concept_embeddings' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from concept_embeddings
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'networks' as table_name, 'parent_network_id' as key, parent_network_id as id, count(*) as times
from networks
where parent_network_id is not null and parent_network_id not in (select network_id from networks)
group by parent_network_id
union all
select 'networks' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from networks
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'layers' as table_name, 'network_id' as key, network_id as id, count(*) as times
from layers
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'neurons' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from neurons
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'predictions' as table_name, 'network_id' as key, network_id as id, count(*) as times
from predictions
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'predictions' as table_name, 'image_id' as key, image_id as id, count(*) as times
from predictions
where image_id is not null and image_id not in (select image_id from images)
group by image_id
union all
select 'extractions' as table_name, 'split_id' as key, split_id as id, count(*) as times
from extractions
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'extractions' as table_name, 'network_id' as key, network_id as id, count(*) as times
from extractions
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'extractions' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from extractions
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'extractions' as table_name, 'clip_id' as key, clip_id as id, count(*) as times
from extractions
where clip_id is not null and clip_id not in (select clip_id from clips)
group by clip_id
union all
select 'extraction_blocks' as table_name, 'extraction_id' as key, extraction_id as id, count(*) as times
from extraction_blocks
where extraction_id is not null and extraction_id not in (select extraction_id from extractions)
group by extraction_id
union all
select 'dissections' as table_name, 'network_id' as key, network_id as id, count(*) as times
from dissections
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'dissections' as table_name, 'split_id' as key, split_id as id, count(*) as times
from dissections
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'dissections' as table_name, 'clip_id' as key, clip_id as id, count(*) as times
from dissections
where clip_id is not null and clip_id not in (select clip_id from clips)
group by clip_id
union all
select 'dissections' as table_name, 'concept_set_id' as key, concept_set_id as id, count(*) as times
from dissections
where concept_set_id is not null and concept_set_id not in (select concept_set_id from concept_sets)
group by concept_set_id
union all
select 'edits' as table_name, 'network_id' as key, network_id as id, count(*) as times
from edits
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'edits' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from edits
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'edit_scales' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_scales
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_scales' as table_name, 'neuron_id' as key, neuron_id as id, count(*) as times
from edit_scales
where neuron_id is not null and neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'rank_permutations' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from rank_permutations
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'kernel_scores' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from kernel_scores
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'kernel_scores' as table_name, 'neuron_id' as key, neuron_id as id, count(*) as times
from kernel_scores
where neuron_id is not null and neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'kernel_scores' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from kernel_scores
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'null_samples' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from null_samples
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'null_samples' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from null_samples
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'null_samples' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from null_samples
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'null_quantiles' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from null_quantiles
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'null_quantiles' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from null_quantiles
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'labelled_layers' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from labelled_layers
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'labelled_layers' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from labelled_layers
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'label_checks' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from label_checks
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'label_checks' as table_name, 'neuron_id' as key, neuron_id as id, count(*) as times
from label_checks
where neuron_id is not null and neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'label_checks' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from label_checks
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'edits' as table_name, 'control_of' as key, control_of as id, count(*) as times
from edits
where control_of is not null and control_of not in (select edit_id from edits)
group by control_of
union all
select 'edit_layers' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_layers
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_layers' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from edit_layers
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'edit_predictions' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_predictions
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_predictions' as table_name, 'image_id' as key, image_id as id, count(*) as times
from edit_predictions
where image_id is not null and image_id not in (select image_id from images)
group by image_id
union all
select 'edit_blocks' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_blocks
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_blocks' as table_name, 'split_id' as key, split_id as id, count(*) as times
from edit_blocks
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'edit_choices' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_choices
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_choices' as table_name, 'split_id' as key, split_id as id, count(*) as times
from edit_choices
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'split_openings' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from split_openings
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'split_openings' as table_name, 'split_id' as key, split_id as id, count(*) as times
from split_openings
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'edit_intervals' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_intervals
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_intervals' as table_name, 'split_id' as key, split_id as id, count(*) as times
from edit_intervals
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'edit_causes' as table_name, 'edit_id' as key, edit_id as id, count(*) as times
from edit_causes
where edit_id is not null and edit_id not in (select edit_id from edits)
group by edit_id
union all
select 'edit_causes' as table_name, 'image_id' as key, image_id as id, count(*) as times
from edit_causes
where image_id is not null and image_id not in (select image_id from images)
group by image_id
union all
select 'edit_causes' as table_name, 'neuron_id' as key, neuron_id as id, count(*) as times
from edit_causes
where neuron_id is not null and neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'ablations' as table_name, 'network_id' as key, network_id as id, count(*) as times
from ablations
where network_id is not null and network_id not in (select network_id from networks)
group by network_id
union all
select 'ablations' as table_name, 'split_id' as key, split_id as id, count(*) as times
from ablations
where split_id is not null and split_id not in (select split_id from splits)
group by split_id
union all
select 'ablations' as table_name, 'layer_id' as key, layer_id as id, count(*) as times
from ablations
where layer_id is not null and layer_id not in (select layer_id from layers)
group by layer_id
union all
select 'ablations' as table_name, 'neuron_id' as key, neuron_id as id, count(*) as times
from ablations
where neuron_id is not null and neuron_id not in (select neuron_id from neurons)
group by neuron_id
union all
select 'ablations' as table_name, 'dissection_id' as key, dissection_id as id, count(*) as times
from ablations
where dissection_id is not null and dissection_id not in (select dissection_id from dissections)
group by dissection_id
union all
select 'ablations' as table_name, 'concept_id' as key, concept_id as id, count(*) as times
from ablations
where concept_id is not null and concept_id not in (select concept_id from concepts)
group by concept_id
union all
select 'ablation_effects' as table_name, 'ablation_id' as key, ablation_id as id, count(*) as times
from ablation_effects
where ablation_id is not null and ablation_id not in (select ablation_id from ablations)
group by ablation_id

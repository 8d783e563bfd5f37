-- A row is a key that stands in its table more than once: whatever is joined by it would count twice.

select 'datasets' as table_name, 'dataset_id' as key, cast(dataset_id as varchar) as value, count(*) as times
from datasets
group by dataset_id
having count(*) > 1
union all
select 'splits' as table_name, 'split_id' as key, cast(split_id as varchar) as value, count(*) as times
from splits
group by split_id
having count(*) > 1
union all
select 'splits' as table_name, 'dataset_id, split' as key, cast(dataset_id as varchar) || ', ' || split as value, count(*) as times
from splits
group by dataset_id, split
having count(*) > 1
union all
select 'classes' as table_name, 'dataset_id, class' as key, cast(dataset_id as varchar) || ', ' || class as value, count(*) as times
from classes
group by dataset_id, class
having count(*) > 1
union all
select 'classes' as table_name, 'dataset_id, position' as key, cast(dataset_id as varchar) || ', ' || cast(position as varchar) as value, count(*) as times
from classes
group by dataset_id, position
having count(*) > 1
union all
select 'images' as table_name, 'image_id' as key, cast(image_id as varchar) as value, count(*) as times
from images
group by image_id
having count(*) > 1
union all
select 'concept_sets' as table_name, 'concept_set_id' as key, cast(concept_set_id as varchar) as value, count(*) as times
from concept_sets
group by concept_set_id
having count(*) > 1
union all
select 'concepts' as table_name, 'concept_id' as key, cast(concept_id as varchar) as value, count(*) as times
from concepts
group by concept_id
having count(*) > 1
union all
select 'concepts' as table_name, 'concept_set_id, position' as key, cast(concept_set_id as varchar) || ', ' || cast(position as varchar) as value, count(*) as times
from concepts
group by concept_set_id, position
having count(*) > 1
union all
select 'concepts' as table_name, 'concept_set_id, concept' as key, cast(concept_set_id as varchar) || ', ' || concept as value, count(*) as times
from concepts
group by concept_set_id, concept
having count(*) > 1
union all
select 'concept_classes' as table_name, 'concept_id, class' as key, cast(concept_id as varchar) || ', ' || class as value, count(*) as times
from concept_classes
group by concept_id, class
having count(*) > 1
union all
select 'clips' as table_name, 'clip_id' as key, cast(clip_id as varchar) as value, count(*) as times
from clips
group by clip_id
having count(*) > 1
union all
select 'concept_embeddings' as table_name, 'clip_id, concept_id' as key, cast(clip_id as varchar) || ', ' || cast(concept_id as varchar) as value, count(*) as times
from concept_embeddings
group by clip_id, concept_id
having count(*) > 1
union all
select 'networks' as table_name, 'network_id' as key, cast(network_id as varchar) as value, count(*) as times
from networks
group by network_id
having count(*) > 1
union all
select 'layers' as table_name, 'layer_id' as key, cast(layer_id as varchar) as value, count(*) as times
from layers
group by layer_id
having count(*) > 1
union all
select 'neurons' as table_name, 'neuron_id' as key, cast(neuron_id as varchar) as value, count(*) as times
from neurons
group by neuron_id
having count(*) > 1
union all
select 'extractions' as table_name, 'extraction_id' as key, cast(extraction_id as varchar) as value, count(*) as times
from extractions
group by extraction_id
having count(*) > 1
union all
select 'dissections' as table_name, 'dissection_id' as key, cast(dissection_id as varchar) as value, count(*) as times
from dissections
group by dissection_id
having count(*) > 1
union all
select 'edits' as table_name, 'edit_id' as key, cast(edit_id as varchar) as value, count(*) as times
from edits
group by edit_id
having count(*) > 1
union all
select 'rank_permutations' as table_name, 'dissection_id, permutation, place' as key, cast(dissection_id as varchar) || ', ' || cast(permutation as varchar) || ', ' || cast(place as varchar) as value, count(*) as times
from rank_permutations
group by dissection_id, permutation, place
having count(*) > 1
union all
select 'kernel_scores' as table_name, 'dissection_id, neuron_id, concept_id' as key, cast(dissection_id as varchar) || ', ' || cast(neuron_id as varchar) || ', ' || cast(concept_id as varchar) as value, count(*) as times
from kernel_scores
group by dissection_id, neuron_id, concept_id
having count(*) > 1
union all
select 'null_samples' as table_name, 'dissection_id, layer_id, null_group, concept_id' as key, cast(dissection_id as varchar) || ', ' || cast(layer_id as varchar) || ', ' || cast(null_group as varchar) || ', ' || cast(concept_id as varchar) as value, count(*) as times
from null_samples
group by dissection_id, layer_id, null_group, concept_id
having count(*) > 1
union all
select 'labelled_layers' as table_name, 'dissection_id, layer_id' as key, cast(dissection_id as varchar) || ', ' || cast(layer_id as varchar) as value, count(*) as times
from labelled_layers
group by dissection_id, layer_id
having count(*) > 1
union all
select 'label_checks' as table_name, 'dissection_id, neuron_id, concept_id' as key, cast(dissection_id as varchar) || ', ' || cast(neuron_id as varchar) || ', ' || cast(concept_id as varchar) as value, count(*) as times
from label_checks
group by dissection_id, neuron_id, concept_id
having count(*) > 1
union all
select 'edit_layers' as table_name, 'edit_id, layer_id' as key, cast(edit_id as varchar) || ', ' || cast(layer_id as varchar) as value, count(*) as times
from edit_layers
group by edit_id, layer_id
having count(*) > 1
union all
select 'edit_blocks' as table_name, 'edit_id, split_id, block' as key, cast(edit_id as varchar) || ', ' || cast(split_id as varchar) || ', ' || cast(block as varchar) as value, count(*) as times
from edit_blocks
group by edit_id, split_id, block
having count(*) > 1
union all
select 'edit_choices' as table_name, 'edit_id, split_id' as key, cast(edit_id as varchar) || ', ' || cast(split_id as varchar) as value, count(*) as times
from edit_choices
group by edit_id, split_id
having count(*) > 1
union all
select 'split_openings' as table_name, 'edit_id, split_id' as key, cast(edit_id as varchar) || ', ' || cast(split_id as varchar) as value, count(*) as times
from split_openings
group by edit_id, split_id
having count(*) > 1
union all
select 'edit_intervals' as table_name, 'edit_id, split_id' as key, cast(edit_id as varchar) || ', ' || cast(split_id as varchar) as value, count(*) as times
from edit_intervals
group by edit_id, split_id
having count(*) > 1
union all
select 'edit_causes' as table_name, 'edit_id, image_id, neuron_id' as key, cast(edit_id as varchar) || ', ' || cast(image_id as varchar) || ', ' || cast(neuron_id as varchar) as value, count(*) as times
from edit_causes
group by edit_id, image_id, neuron_id
having count(*) > 1
union all
select 'edit_causes' as table_name, 'edit_id, image_id, rank' as key, cast(edit_id as varchar) || ', ' || cast(image_id as varchar) || ', ' || cast(rank as varchar) as value, count(*) as times
from edit_causes
group by edit_id, image_id, rank
having count(*) > 1
union all
select 'ablations' as table_name, 'ablation_id' as key, cast(ablation_id as varchar) as value, count(*) as times
from ablations
group by ablation_id
having count(*) > 1
union all
select 'ablation_effects' as table_name, 'ablation_id, class' as key, cast(ablation_id as varchar) || ', ' || class as value, count(*) as times
from ablation_effects
group by ablation_id, class
having count(*) > 1
union all
select 'block_sums' as table_name, 'split_id, neuron_id, block' as key, cast(split_id as varchar) || ', ' || cast(neuron_id as varchar) || ', ' || cast(block as varchar) as value, count(*) as times
from block_sums
group by split_id, neuron_id, block
having count(*) > 1

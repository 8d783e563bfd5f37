-- Schema 2 to 3.

-- Files that are left out are counted from now on; for datasets that were scanned before, the counts are unknown.
create table left_out (
    dataset_id integer not null,
    reason varchar not null,
    detail varchar not null,
    files bigint not null
);

-- If a module runs several times in a forward pass, `call` tells which run the layer is.
alter table layers add column call integer;

-- Sparse neurons: a dissection gets a lowest number of images, and a null the group of neurons that it is for. The
-- stored nulls were drawn for ordinary neurons with the longest lists; `extract` draws the missing ones.
alter table dissections add column min_images integer;
update dissections set min_images = least(10, top_k);
alter table null_samples add column null_group integer;
alter table null_quantiles add column null_group integer;
create temp table longest_lists as
select
    dissections.dissection_id,
    case
        when scorer in ('soft_wpmi', 'wpmi') then least(any_value(top_k), count(*))
        when scorer = 'rank_reorder' then least(floor(any_value(rank_fraction) * count(*)), 256)
        else least(256, count(*))
    end as null_group
from dissections
inner join images on dissections.split_id = images.split_id
where images.defect is null
group by dissections.dissection_id, scorer;
update null_samples set null_group = longest_lists.null_group
from longest_lists where null_samples.dissection_id = longest_lists.dissection_id;
update null_quantiles set null_group = longest_lists.null_group
from longest_lists where null_quantiles.dissection_id = longest_lists.dissection_id;
drop table longest_lists;
alter table label_checks alter column split_half_agrees drop not null;

-- Labels get a ledger by layer. In schema 2, neurons that fire on fewer than top_k images counted as dead and were not
-- checked, and neurons with heavy tails shared the null of the others. A layer with such neurons gets a ledger that
-- differs from dissected_neurons, so that `extract` labels it again.
create table labelled_layers (
    dissection_id integer not null,
    layer_id integer not null,
    neurons integer not null,
    null_groups bigint not null
);
insert into labelled_layers
select
    drawn.dissection_id,
    drawn.layer_id,
    count(label_checks.neuron_id) as neurons,
    case when count(label_checks.neuron_id) > 0 then any_value(drawn.null_group) else 0 end as null_groups
from (select distinct dissection_id, layer_id, null_group from null_quantiles) as drawn
inner join neurons on drawn.layer_id = neurons.layer_id
left join label_checks
    on drawn.dissection_id = label_checks.dissection_id and neurons.neuron_id = label_checks.neuron_id
group by drawn.dissection_id, drawn.layer_id;

-- Views read the sums, values and top images of blocks. Early warehouses of schema 2 stored activations only, so what
-- an extraction writes beside them is computed here, for each block of the ledger that has no sums.
create table if not exists block_tops (neuron_id integer not null, image_id integer not null, value float not null);
create table if not exists block_sums (
    split_id integer not null,
    neuron_id integer not null,
    block integer not null,
    images integer not null,
    total double not null,
    total_squares double not null,
    lowest float not null,
    highest float not null,
    distinct_values integer not null
);
create table if not exists block_values (split_id integer not null, neuron_id integer not null, value float not null);

create temp table unsummed_images as
with ledger as (
    select
        extractions.layer_id,
        extractions.split_id,
        extraction_blocks.block,
        extraction_blocks.images,
        sum(extraction_blocks.images) over (partition by extractions.extraction_id order by extraction_blocks.block) as last
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    where extractions.target = 'activations'
),
summed as (
    select distinct neurons.layer_id, block_sums.split_id, block_sums.block
    from block_sums
    inner join neurons on block_sums.neuron_id = neurons.neuron_id
),
sound_images as (
    select image_id, split_id, row_number() over (partition by split_id order by position) as place
    from images
    where defect is null
)
select ledger.layer_id, ledger.split_id, ledger.block, sound_images.image_id
from ledger
anti join summed
    on ledger.layer_id = summed.layer_id and ledger.split_id = summed.split_id and ledger.block = summed.block
inner join sound_images
    on
        ledger.split_id = sound_images.split_id
        and sound_images.place > ledger.last - ledger.images
        and sound_images.place <= ledger.last;

create temp view unsummed_activations as
select unsummed_images.split_id, unsummed_images.block, activations.neuron_id, activations.image_id, activations.value
from activations
inner join neurons on activations.neuron_id = neurons.neuron_id
inner join unsummed_images
    on neurons.layer_id = unsummed_images.layer_id and activations.image_id = unsummed_images.image_id;

create temp table unsummed_tops as
select split_id, block, neuron_id, image_id, value
from unsummed_activations
qualify row_number() over (partition by split_id, block, neuron_id order by (value, -image_id) desc) <= 256;

-- Only where top images share a value, or are fewer than 256, can a neuron have fewer than 256 different values.
create temp table unsummed_values as
select unsummed.split_id, unsummed.block, unsummed.neuron_id, unsummed.value
from unsummed_activations as unsummed
inner join (
    select split_id, block, neuron_id from unsummed_tops group by all having count(distinct value) < 256
) as tied
    on
        unsummed.split_id = tied.split_id
        and unsummed.block = tied.block
        and unsummed.neuron_id = tied.neuron_id
group by unsummed.split_id, unsummed.block, unsummed.neuron_id, unsummed.value
qualify count(*) over (partition by unsummed.split_id, unsummed.block, unsummed.neuron_id) < 256;

insert into block_tops
select neuron_id, image_id, value from unsummed_tops order by split_id, block, neuron_id, value desc, image_id;
insert into block_values
select split_id, neuron_id, value from unsummed_values order by split_id, block, neuron_id, value;
insert into block_sums
select
    sums.split_id, sums.neuron_id, sums.block, sums.images, sums.total, sums.total_squares, sums.lowest, sums.highest,
    coalesce(counted.different, 256)
from (
    select
        split_id, block, neuron_id, count(*) as images, sum(value::double) as total,
        sum(value::double * value) as total_squares, min(value) as lowest, max(value) as highest
    from unsummed_activations
    group by all
) as sums
left join (
    select split_id, block, neuron_id, count(*) as different from unsummed_values group by all
) as counted
    on
        sums.split_id = counted.split_id
        and sums.block = counted.block
        and sums.neuron_id = counted.neuron_id
order by sums.split_id, sums.block, sums.neuron_id;

drop view unsummed_activations;
drop table unsummed_values;
drop table unsummed_tops;
drop table unsummed_images;

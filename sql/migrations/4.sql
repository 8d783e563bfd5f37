-- Schema 3 to 4.

-- Labels get a p within classes. Stored labels have none, and views count the test as unknown, not as passed. Without
-- their entries in the ledger, `extract` labels these layers again, once.
alter table label_checks add column p_within double;
delete from labelled_layers;

-- Views read the sums, values and top images of blocks. Early warehouses stored activations only, so what an
-- extraction writes beside them is computed here, for each block of the ledger that has no sums.
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

-- Schema 1 to 2: every edit has predictions and a ledger, not only those whose network was saved. An edit may scale
-- several layers, scale biases, have separate factors up and down, and have controls.

alter table edits rename to edits_of_1;
alter table edit_scales rename to edit_scales_of_1;
create table edits (
    edit_id integer not null,
    name varchar not null,
    network_id integer not null,
    dissection_id integer not null,
    layer varchar not null,
    rule varchar not null,
    tau double,
    factor double,
    factor_down double,
    scale_bias boolean not null,
    concepts varchar[],
    sql varchar,
    control varchar,
    control_of integer,
    draw integer,
    created_at timestamp not null,
    fingerprint varchar not null
);
insert into edits by name
select
    edit_id, name, network_id, dissection_id, layer, rule, tau, factor, factor as factor_down, false as scale_bias, sql,
    created_at, fingerprint
from edits_of_1;

create table edit_scales (
    edit_id integer not null,
    neuron_id integer not null,
    scale double not null,
    bias_scale double not null
);
insert into edit_scales
select edit_id, neuron_id, scale, 1 as bias_scale
from edit_scales_of_1;

create table edit_layers (edit_id integer not null, layer_id integer not null);
insert into edit_layers
select edits.edit_id, layers.layer_id
from edits
inner join layers on edits.network_id = layers.network_id and edits.layer = layers.layer
qualify row_number() over (partition by edits.edit_id order by layers.layer_id desc) = 1;

create table edit_predictions (
    edit_id integer not null,
    image_id integer not null,
    class varchar not null,
    confidence float not null,
    loss float
);
insert into edit_predictions
select networks.edit_id, predictions.image_id, predictions.class, predictions.confidence, predictions.loss
from predictions
inner join networks on predictions.network_id = networks.network_id
where networks.edit_id is not null;

create table edit_blocks (
    edit_id integer not null,
    split_id integer not null,
    block integer not null,
    images integer not null,
    seconds double not null,
    finished_at timestamp not null
);
insert into edit_blocks
select
    networks.edit_id, extractions.split_id, extraction_blocks.block, extraction_blocks.images, extraction_blocks.seconds,
    extraction_blocks.finished_at
from extraction_blocks
inner join extractions on extraction_blocks.extraction_id = extractions.extraction_id
inner join networks on extractions.network_id = networks.network_id
where networks.edit_id is not null and extractions.target = 'predictions';

create table edit_choices (
    edit_id integer not null,
    split_id integer not null,
    edits_tried integer not null,
    chosen_at timestamp not null
);
-- Schema 1 had declared edits only, and measured each on every split. Each counts as chosen among all of them on the
-- splits other than test, so that the tries are counted and the use of the test images is on record.
insert into edit_choices
select
    edit_blocks.edit_id, edit_blocks.split_id, any_value(tried.edits_tried), min(edit_blocks.finished_at)
from edit_blocks
inner join splits on edit_blocks.split_id = splits.split_id
inner join (
    select edit_id, count(*) over (partition by network_id) as edits_tried from edits_of_1
) as tried on edit_blocks.edit_id = tried.edit_id
where splits.split <> 'test'
group by edit_blocks.edit_id, edit_blocks.split_id;

create table split_openings (edit_id integer not null, split_id integer not null, opened_at timestamp not null);
insert into split_openings
select edit_blocks.edit_id, edit_blocks.split_id, min(edit_blocks.finished_at)
from edit_blocks
inner join splits on edit_blocks.split_id = splits.split_id
where splits.split = 'test'
group by edit_blocks.edit_id, edit_blocks.split_id;

drop table edits_of_1;
drop table edit_scales_of_1;

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

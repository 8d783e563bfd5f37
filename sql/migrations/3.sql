-- Schema 2 to 3.

-- Sparse neurons: a dissection has a least number of images, and a null the length of the lists that it is for. Those
-- that are there were drawn for the longest lists; `extract` draws what is missing for the others.
alter table dissections add column min_images integer;
update dissections set min_images = least(10, top_k);
alter table null_samples add column list_images integer;
alter table null_quantiles add column list_images integer;
create temp table longest_lists as
select
    dissections.dissection_id,
    case
        when scorer in ('soft_wpmi', 'wpmi') then least(any_value(top_k), count(*))
        when scorer = 'rank_reorder' then least(floor(any_value(rank_fraction) * count(*)), 256)
        else least(256, count(*))
    end as list_images
from dissections
inner join images on dissections.split_id = images.split_id
where images.defect is null
group by dissections.dissection_id, scorer;
update null_samples set list_images = longest_lists.list_images
from longest_lists where null_samples.dissection_id = longest_lists.dissection_id;
update null_quantiles set list_images = longest_lists.list_images
from longest_lists where null_quantiles.dissection_id = longest_lists.dissection_id;
drop table longest_lists;
alter table label_checks alter column split_half_agrees drop not null;

-- Which files in the dataset's folder are not among its images, and how many for each reason?
-- grain: reason

select
    left_out.reason || case when left_out.detail = '' then '' else ' (' || left_out.detail || ')' end as reason,
    left_out.files
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join splits on dissections.split_id = splits.split_id
inner join left_out on splits.dataset_id = left_out.dataset_id
order by left_out.files desc, reason
limit 10

-- A row is a dissection that both the views and the kernel have scored, so that its scores would count twice.

select distinct kernel_scores.dissection_id, dissections.engine
from kernel_scores
inner join dissections on kernel_scores.dissection_id = dissections.dissection_id
where dissections.engine <> 'kernel'

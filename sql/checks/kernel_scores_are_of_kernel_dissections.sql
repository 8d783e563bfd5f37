-- A row is a dissection that the views score and a kernel has scored too, so that its scores would count twice.

select distinct kernel_scores.dissection_id, dissections.engine
from kernel_scores
inner join dissections on kernel_scores.dissection_id = dissections.dissection_id
where dissections.engine <> 'kernel'

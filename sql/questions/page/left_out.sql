-- Why were images of the probing set left out, and how many for each reason?
-- grain: reason

select
    case
        when substring(images.defect, 1, 6) = 'repeat' then 'repeated'
        when substring(images.defect, 1, 10) = 'unreadable' then 'unreadable'
        when substring(images.defect, 1, 5) = 'blank' then 'blank'
        else images.defect
    end as reason,
    count(*) as images
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join images on dissections.split_id = images.split_id
where images.defect is not null
group by reason
order by images desc, reason
limit 10

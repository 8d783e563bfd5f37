-- How often are the two networks right about the same images of each split, and is the difference more than chance?
-- grain: dataset, split
-- parameters: a, b
--
-- is_evidence: McNemar's exact test gives at most 5 %.

with

networks_compared as (

    select of_a.network_id, of_b.network_id as other_network_id
    from dissections as of_a
    cross join dissections as of_b
    where of_a.dissection_id = $a and of_b.dissection_id = $b

)

select
    named_datasets.dataset,
    network_changes.*,
    network_changes.gained - network_changes.lost as difference,
    network_changes.p_mcnemar <= cast(0.05 as double) as is_evidence
from network_changes
inner join networks_compared
    on
        network_changes.network_id = networks_compared.network_id
        and network_changes.other_network_id = networks_compared.other_network_id
inner join splits on network_changes.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
order by network_changes.split_id
limit 200

-- How often two networks are right about the same images of a split, and whether they differ.
-- grain: network_id, other_network_id, split_id
-- public
--
-- Only images count that both networks have predicted and whose class is an output of both.
-- gained: images that only the other network gets right. lost: images that only the first network gets right. changed:
-- images to which the two give different classes, right or wrong.
-- p_mcnemar: McNemar's exact test on gained and lost, for this comparison alone. If the other network is an edit that
-- was the best of many, use edit_results, which corrects for their number.

select
    networks.name as network,
    others.name as other_network,
    splits.split,
    paired_outcomes.images,
    paired_outcomes.correct,
    paired_outcomes.other_correct,
    paired_outcomes.correct / paired_outcomes.images as accuracy,
    paired_outcomes.other_correct / paired_outcomes.images as other_accuracy,
    paired_outcomes.loss,
    paired_outcomes.other_loss,
    paired_outcomes.gained,
    paired_outcomes.lost,
    paired_outcomes.changed,
    paired_outcomes.p_mcnemar,
    paired_outcomes.split_id,
    paired_outcomes.other_network_id,
    paired_outcomes.network_id
from paired_outcomes
inner join networks on paired_outcomes.network_id = networks.network_id
inner join networks as others on paired_outcomes.other_network_id = others.network_id
inner join splits on paired_outcomes.split_id = splits.split_id
where paired_outcomes.network_id is not null  -- so that the engine need not compare edits

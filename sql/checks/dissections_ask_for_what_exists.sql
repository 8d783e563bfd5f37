-- A row is a dissection by a scorer, an engine or a rule that no view knows: it would come out empty.

select dissection_id, scorer, engine, rule
from dissections
where
    scorer not in ('soft_wpmi', 'wpmi', 'cos', 'cos_cubed', 'rank_reorder', 'pearson')
    or engine not in ('sql', 'kernel')
    or rule not in ('tau', 'q')

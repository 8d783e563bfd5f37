-- A row is a dissection with a scorer, an engine or a rule that no view has: its results would be empty.

select dissection_id, scorer, engine, rule
from dissections
where
    scorer not in ('soft_wpmi', 'wpmi', 'cos', 'cos_cubed', 'rank_reorder', 'pearson')
    or engine not in ('sql', 'kernel')
    or rule not in ('tau', 'q')

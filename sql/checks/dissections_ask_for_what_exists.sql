-- A row is a dissection with a scorer that the views do not compute, or with an unknown engine or rule: its results
-- would be empty.

select dissection_id, scorer, engine, rule
from dissections
where
    (engine <> 'kernel' and scorer not in ('soft_wpmi', 'wpmi', 'cos', 'cos_cubed', 'rank_reorder', 'pearson', 'presence'))
    or engine not in ('sql', 'kernel')
    or rule not in ('tau', 'q')

-- A row is a dissection whose scores no view computes: it asks the views for a scorer, or it names an engine or a rule,
-- that they do not have. Its results would be empty.

select dissection_id, scorer, engine, rule
from dissections
where
    (engine <> 'kernel' and scorer not in ('soft_wpmi', 'wpmi', 'cos', 'cos_cubed', 'rank_reorder', 'pearson'))
    or engine not in ('sql', 'kernel')
    or rule not in ('tau', 'q')

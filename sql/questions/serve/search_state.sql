-- Of which state are the best images that a search reads? It changes when a build has found others.
-- grain: state

select content as state
from view_builds
where view = 'top_activations'

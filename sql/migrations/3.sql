-- Schema 2 to 3.

-- Labels have a ledger by layer: what a dissection already has of a layer was made in one piece.
create table if not exists labelled_layers (dissection_id integer not null, layer_id integer not null);
insert into labelled_layers
select dissection_id, layer_id from null_quantiles
union
select dissection_id, layer_id from null_samples
union
select kernel_scores.dissection_id, neurons.layer_id
from kernel_scores inner join neurons on kernel_scores.neuron_id = neurons.neuron_id
union
select label_checks.dissection_id, neurons.layer_id
from label_checks inner join neurons on label_checks.neuron_id = neurons.neuron_id
except
select dissection_id, layer_id from labelled_layers;

-- Are activations of one neuron stored, and has it been silenced?
-- grain: neuron_id
-- parameters: neuron
-- engine: duckdb
--
-- If not, the page does not ask for them: to find nothing takes the views as long as to find something.

select
    neuron_id,
    exists(select 1 from activations where neuron_id = $neuron) as activations,
    exists(select 1 from ablations where neuron_id = $neuron) as effects
from neurons
where neuron_id = $neuron

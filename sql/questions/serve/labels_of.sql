-- What are the labels of some neurons that were found by other means?
-- grain: layer, unit
-- parameters: wanted
-- engine: duckdb
--
-- $wanted is a list in JSON: [{"layer": "conv1", "unit": 0}].

with

wanted as (

    select unnest(from_json($wanted, '[{"layer": "VARCHAR", "unit": "INTEGER"}]'), recursive := true)

)

select neuron_concepts.layer, neuron_concepts.unit, neuron_concepts.concept, neuron_concepts.interpretable
from wanted
inner join neuron_concepts on wanted.layer = neuron_concepts.layer and wanted.unit = neuron_concepts.unit

-- A row is a network with predictions of more or fewer probabilities than it has classes.

select
    networks.network_id,
    len(networks.classes) as classes,
    len(predictions.probabilities) as probabilities,
    count(*) as predictions
from predictions
inner join networks on predictions.network_id = networks.network_id
where len(predictions.probabilities) <> len(networks.classes)
group by networks.network_id, len(networks.classes), len(predictions.probabilities)

-- A row is a cause of a change that the edit did not make, or one whose contribution is no number.

select
    edit_causes.edit_id,
    edit_causes.image_id,
    edit_causes.neuron_id,
    edit_causes.contribution
from edit_causes
left join edit_flips
    on
        edit_causes.edit_id = edit_flips.edit_id
        and edit_causes.image_id = edit_flips.image_id
where edit_flips.edit_id is null or not isfinite(edit_causes.contribution)

-- A row is a cause for an image whose class the edit did not change, or a contribution that is not a number.

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

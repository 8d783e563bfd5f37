-- How two sets of predictions for the same images of a split differ: of an edit and its network, or of two networks.
-- grain: edit_id, network_id, other_network_id, split_id
--
-- The first set comes from the network, the other from the edit or the other network. If it is an edit, network_id and
-- other_network_id are NULL; if it is another network, edit_id is NULL. Controls of edits have no row. Of two networks,
-- only images count that both have predicted and whose class is an output of both.
-- gained: images that only the other set has right. lost: images that only the first set has right. changed: images
-- with two different classes, right or wrong.
-- p_mcnemar: McNemar's exact test on gained and lost, two-sided.

with

compared as (

    select
        edit_outcomes.edit_id,
        null as network_id,
        null as other_network_id,
        edit_outcomes.split_id,
        edit_outcomes.images,
        edit_outcomes.correct_before as correct,
        edit_outcomes.correct_after as other_correct,
        edit_outcomes.loss_before as loss,
        edit_outcomes.loss_after as other_loss,
        edit_outcomes.gained,
        edit_outcomes.lost,
        edit_outcomes.changed
    from edit_outcomes
    inner join edits on edit_outcomes.edit_id = edits.edit_id
    where edits.control is null
    union all
    select
        null as edit_id,
        mine.network_id,
        others.network_id as other_network_id,
        mine.split_id,
        count(*) as images,
        count(*) filter (where mine.is_correct) as correct,
        count(*) filter (where others.is_correct) as other_correct,
        avg(mine.loss) as loss,
        avg(others.loss) as other_loss,
        count(*) filter (where others.is_correct and not mine.is_correct) as gained,
        count(*) filter (where mine.is_correct and not others.is_correct) as lost,
        count(*) filter (where mine.predicted_class <> others.predicted_class) as changed
    from image_predictions as mine
    inner join image_predictions as others
        on
            mine.image_id = others.image_id
            and mine.network_id <> others.network_id
    where mine.is_correct is not null and others.is_correct is not null
    group by mine.network_id, others.network_id, mine.split_id

),

factorials as (

    -- ln n! for every n up to the number of images, since all of them could change.
    select
        0 as n,
        cast(0 as double) as ln_factorial
    union all
    select
        n,
        sum(ln(n)) over (order by n) as ln_factorial
    from (select row_number() over (order by image_id) as n from images) as numbers

)

-- The chance that the smaller of gained and lost is this small if both are equally likely.
select
    compared.edit_id,
    compared.network_id,
    compared.other_network_id,
    compared.split_id,
    compared.images,
    compared.correct,
    compared.other_correct,
    compared.loss,
    compared.other_loss,
    compared.gained,
    compared.lost,
    compared.changed,
    least(
        2 * sum(
            exp(
                whole.ln_factorial - part.ln_factorial - rest.ln_factorial
                - (compared.gained + compared.lost) * ln(2)
            )
        ),
        1
    ) as p_mcnemar
from compared
inner join factorials as whole on whole.n = compared.gained + compared.lost
inner join factorials as part on part.n <= least(compared.gained, compared.lost)
inner join factorials as rest on rest.n = compared.gained + compared.lost - part.n
group by
    compared.edit_id,
    compared.network_id,
    compared.other_network_id,
    compared.split_id,
    compared.images,
    compared.correct,
    compared.other_correct,
    compared.loss,
    compared.other_loss,
    compared.gained,
    compared.lost,
    compared.changed

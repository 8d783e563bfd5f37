-- What each edit did to the network's predictions, image by image, per split.
-- grain: edit_id, split_id
--
-- p_mcnemar is McNemar's exact test on the images gained and lost; p_corrected is Bonferroni's, for the number
-- of edits of that network; low to high is the normal 95 % interval of the difference of two paired shares.

with

pairs as (

    select
        edits.edit_id,
        after.network_id as edited_network_id,
        before.split_id,
        before.split,
        before.is_correct as correct_before,
        after.is_correct as correct_after,
        before.loss as loss_before,
        after.loss as loss_after
    from edits
    inner join networks on edits.edit_id = networks.edit_id
    inner join image_predictions as after on networks.network_id = after.network_id
    inner join image_predictions as before
        on
            edits.network_id = before.network_id
            and after.image_id = before.image_id
    where before.true_class is not null

),

counted as (

    select
        edit_id,
        edited_network_id,
        split_id,
        split,
        count(*) as images,
        count(*) filter (where correct_before) as correct_before,
        count(*) filter (where correct_after) as correct_after,
        avg(loss_before) as loss_before,
        avg(loss_after) as loss_after,
        count(*) filter (where correct_after and not correct_before) as gained,
        count(*) filter (where correct_before and not correct_after) as lost
    from pairs
    group by edit_id, edited_network_id, split_id, split

),

factorials as (

    -- ln n!, for as many n as there are images that could change.
    select
        0 as n,
        cast(0 as double) as ln_factorial
    union all
    select
        n,
        sum(ln(n)) over (order by n) as ln_factorial
    from (select row_number() over (order by image_id) as n from images) as numbers

),

tails as (

    -- The chance that the smaller of gained and lost is this small when each is as likely as the other.
    select
        counted.edit_id,
        counted.split_id,
        least(
            2 * sum(
                exp(
                    whole.ln_factorial - part.ln_factorial - rest.ln_factorial
                    - (counted.gained + counted.lost) * ln(2)
                )
            ),
            1
        ) as p_mcnemar
    from counted
    inner join factorials as whole on whole.n = counted.gained + counted.lost
    inner join factorials as part on part.n <= least(counted.gained, counted.lost)
    inner join factorials as rest on rest.n = counted.gained + counted.lost - part.n
    group by counted.edit_id, counted.split_id

),

tries as (

    select network_id, count(*) as edits_tried
    from edits
    group by network_id

),

differences as (

    select
        edit_id,
        split_id,
        (gained - lost) / images as difference,
        cast(1.959963984540054 as double)
        * sqrt(gained + lost - (gained - lost) * (gained - lost) / images) / images as half_width
    from counted

)

select
    edits.edit_id,
    edited.name as network,
    edits.layer,
    edits.rule,
    edits.tau,
    edits.factor,
    counted.split,
    counted.images,
    counted.correct_before,
    counted.correct_after,
    counted.correct_before / counted.images as accuracy_before,
    counted.correct_after / counted.images as accuracy_after,
    counted.loss_before,
    counted.loss_after,
    counted.gained,
    counted.lost,
    tails.p_mcnemar,
    least(tails.p_mcnemar * tries.edits_tried, 1) as p_corrected,
    differences.difference - differences.half_width as low,
    differences.difference + differences.half_width as high,
    counted.split_id,
    edits.dissection_id
from counted
inner join edits on counted.edit_id = edits.edit_id
inner join networks as edited on counted.edited_network_id = edited.network_id
inner join tails
    on
        counted.edit_id = tails.edit_id
        and counted.split_id = tails.split_id
inner join tries on edits.network_id = tries.network_id
inner join differences
    on
        counted.edit_id = differences.edit_id
        and counted.split_id = differences.split_id

-- How often two networks are right about the same images of a split, and whether they differ.
-- grain: network_id, other_network_id, split_id
-- public
--
-- Only images count that both networks have predicted and whose class is an output of both.
-- gained: images that only the other network gets right. lost: images that only the first network gets right. changed:
-- images to which the two give different classes, right or wrong.
-- p_mcnemar: McNemar's exact test on gained and lost, for this comparison alone. If the other network is an edit that
-- was the best of many, use edit_results, which corrects for their number.

with

counted as (

    select
        mine.network,
        others.network as other_network,
        mine.split,
        count(*) as images,
        count(*) filter (where mine.is_correct) as correct,
        count(*) filter (where others.is_correct) as other_correct,
        avg(mine.loss) as loss,
        avg(others.loss) as other_loss,
        count(*) filter (where others.is_correct and not mine.is_correct) as gained,
        count(*) filter (where mine.is_correct and not others.is_correct) as lost,
        count(*) filter (where mine.predicted_class <> others.predicted_class) as changed,
        mine.split_id,
        others.network_id as other_network_id,
        mine.network_id
    from image_predictions as mine
    inner join image_predictions as others
        on
            mine.image_id = others.image_id
            and mine.network_id <> others.network_id
    where mine.is_correct is not null and others.is_correct is not null
    group by mine.network, others.network, mine.split, mine.split_id, others.network_id, mine.network_id

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

),

tails as (

    -- The chance that the smaller of gained and lost is this small if both are equally likely.
    select
        counted.network_id,
        counted.other_network_id,
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
    group by counted.network_id, counted.other_network_id, counted.split_id

)

select
    counted.network,
    counted.other_network,
    counted.split,
    counted.images,
    counted.correct,
    counted.other_correct,
    counted.correct / counted.images as accuracy,
    counted.other_correct / counted.images as other_accuracy,
    counted.loss,
    counted.other_loss,
    counted.gained,
    counted.lost,
    counted.changed,
    tails.p_mcnemar,
    counted.split_id,
    counted.other_network_id,
    counted.network_id
from counted
inner join tails
    on
        counted.network_id = tails.network_id
        and counted.other_network_id = tails.other_network_id
        and counted.split_id = tails.split_id

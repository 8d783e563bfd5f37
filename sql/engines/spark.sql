-- The nd_ functions in Spark 4.2 or newer. A SQL function of Spark cannot contain an aggregate, so these are never
-- created: warehouse/spark.py replaces each call by the body of its function. It runs the statements before them first.

declare or replace variable dissection int;

-- Rounded to a float at every step, from the first element on, as in DuckDB (a fused multiply-add): a softmax of scaled
-- cosines would magnify a difference in the last bits.
create or replace macro nd_dot(a, b) as
    aggregate(
        zip_with(a, b, (x, y) -> cast(x as double) * cast(y as double)),
        cast(0 as float),
        (total, product) -> cast(total + product as float)
    );

-- An aggregate: the x of the k rows with the largest key, as a list, largest first; k is a constant.
create or replace macro nd_highest_by(x, key, k) as max_by(x, key, k);

-- The first n elements of a list.
create or replace macro nd_first(elements, n) as slice(elements, 1, n);

-- The dissection that the session selects by: set variable dissection = 1; NULL if it selects none.
create or replace macro nd_named_dissection() as session.dissection;

-- Whether an element is in a list.
create or replace macro nd_contains(elements, element) as array_contains(elements, element);

-- An aggregate: the sum of whole numbers.
create or replace macro nd_total(x) as sum(x);

-- An aggregate: the texts x, joined by commas, in the order of the numbers `place`.
create or replace macro nd_joined(x, place) as
    array_join(transform(array_sort(collect_list(named_struct('first', place, 'second', x))), each -> each.second), ', ');

-- A whole number as text.
create or replace macro nd_digits(n) as cast(n as string);

-- A name in lower case without spaces, underscores and hyphens, to match names that are spelled differently.
create or replace macro nd_name_key(x) as lower(replace(replace(replace(x, ' ', ''), '_', ''), '-', ''));

-- The score by which concepts are ranked. Scores that differ by no more than a millionth of the best one tie with it, and
-- count as the best: sums are rounded differently on different devices, and this must not decide.
create or replace macro nd_tied(score, best) as case when score >= best - 1e-6 * abs(best) then best else score end;

-- The share of a list's elements above a limit; NULL if the limit is.
create or replace macro nd_share_above(elements, lower_limit) as
    case when lower_limit is not null
        then cast(size(filter(elements, x -> x > lower_limit)) as double) / size(elements) end;

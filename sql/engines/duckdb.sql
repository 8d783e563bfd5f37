-- The nd_ functions in DuckDB: what the views need beyond the SQL that all engines share.

create or replace macro nd_dot(a, b) as list_dot_product(a, b);

-- An aggregate: the x of the k rows with the largest key, as a list, largest first; k is a constant. One pass with a
-- small heap per group; a window would sort.
create or replace macro nd_highest_by(x, key, k) as arg_max(x, key, k);

-- The first n elements of a list.
create or replace macro nd_first(elements, n) as elements[1:n];

-- The dissection that the session selects by: set variable dissection = 1; NULL if it selects none.
create or replace macro nd_named_dissection() as cast(getvariable('dissection') as integer);

-- Whether an element is in a list.
create or replace macro nd_contains(elements, element) as list_contains(elements, element);

-- An aggregate: the sum of whole numbers, as bigint: DuckDB's hugeint has no type in other programs.
create or replace macro nd_total(x) as cast(sum(x) as bigint);

-- An aggregate: the texts x, joined by commas, in the order of the numbers `place`.
create or replace macro nd_joined(x, place) as string_agg(x, ', ' order by place);

-- A whole number as text.
create or replace macro nd_digits(n) as cast(n as varchar);

-- A name in lower case without spaces, underscores and hyphens, to match names that are spelled differently.
create or replace macro nd_name_key(x) as lower(replace(replace(replace(x, ' ', ''), '_', ''), '-', ''));

-- The score by which concepts are ranked. Scores that differ by no more than a millionth of the best one tie with it, and
-- count as the best: sums are rounded differently on different devices, and this must not decide.
create or replace macro nd_tied(score, best) as case when score >= best - 1e-6 * abs(best) then best else score end;

-- The share of a list's elements above a limit; NULL if the limit is.
create or replace macro nd_share_above(elements, lower_limit) as
    case when lower_limit is not null
        then cast(len(list_filter(elements, lambda x: x > lower_limit)) as double) / len(elements) end;

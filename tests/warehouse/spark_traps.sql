-- What DuckDB and Spark might see differently: queries over the table t of tests/warehouse/test_spark.py, titles first. Both
-- engines have to answer alike.

-- nulls come last, upwards
select i, row_number() over (order by v, i desc) as r from t;

-- nulls come last, downwards
select i, row_number() over (order by d desc, i) as r from t;

-- nulls of text
select i, row_number() over (partition by v is null order by s, i) as r from t;

-- pairs have an order, and -0.0 is 0.0
select i, row_number() over (order by (v, -i) desc) as r from t where v is not null;

-- zeros are one group
select count(*) as n from t group by v;

-- zeros are one value
select count(distinct v) as n from t;

-- whole numbers divide into fractions
select i / 2 as a, count(*) over (partition by s) / 3 as b, 7 / i as c from t;

-- a float is not above itself as double
select i, v > cast(0.2 as double) as a, v >= d as b from t;

-- a float stays one
select i, floor(cast(v * 10 as float)) as a, floor(cast(i * v as float)) / 10 as b from t;

-- a double becomes a float
select i, cast(d / 3 as float) as a from t;

-- small numbers in words
select i, d > 1e-31 as a, ln(1 + 1e-7) as b, 1e-9 * i as c from t;

-- null in least and greatest
select least(d, 2) as a, greatest(v, 0, d) as b, least(floor(d / nullif(i - 1, 0)), 1) as c from t;

-- null in logic
select i, s = 'x' as a, coalesce(s = 'x', false) as b, not s <> 'x' or v is null as c from t;

-- null in text
select i, s || '+' || s as a, case s when 'x' then 1 when 'y' then d end as b from t;

-- null in a set
select i from t where s in ('x', 'y') and i in (select i from t where d is not null);

-- filters
select s, count(*) filter (where d > 2) as a, avg(v) filter (where i > 3) as b, max(i) filter (where i < 0) as c
    from t group by s;

-- aggregates of nothing
select count(*) as a, sum(i) as b, max(v) as c, avg(v) as d, stddev_pop(v) as e, nd_total(i) as f
    from nothing;

-- groups of nothing
select i, count(*) as n from nothing group by i;

-- windows with a frame
select i, min(v) over (order by i rows between current row and unbounded following) as a, sum(i) over (order by
    i) as b from t;

-- ties in a running sum
select i, sum(i) over (order by d) as a from t;

-- percent_rank and lag
select i, percent_rank() over (order by d) as a, percent_rank() over (order by v desc) as b, lag(d) over (order
    by i) as c from t;

-- qualify over what is not selected
select i, s from t qualify row_number() over (partition by s order by d desc, i) = 1;

-- qualify over groups
select s, count(*) as n from t group by s qualify row_number() over (order by count(*) desc, s) <= 2;

-- a window over groups
select s, count(*) / sum(count(*)) over (partition by s is null) as a from t group by s;

-- joins by a common column
select i, t.d, u.v from t left join nothing as u using (i);

-- joins on more than a key
select t.i, count(u.i) as n from t left join t as u on t.s = u.s and t.d >= u.d group by t.i;

-- spreads of one
select i, stddev_pop(d) as a, var_pop(d) as b, stddev(d) as c, variance(d) as e from t group by i;

-- a constant has no correlation
select case when stddev_pop(i - i) > 1e-6 * abs(avg(i)) then corr(i, i - i) end as a, corr(i, d) as b from t;

-- powers
select i, pow(d, 0) as a, pow(0, i) as b, pow(abs(v), cast(0.5 as double)) as c, exp(-1000) as e from t;

-- floors below zero
select i, floor(-d) as a, floor(v - 1) / 2 as b from t;

-- mixed unions
select i as a, cast(null as varchar) as b from t union all select d as a, s as b from t;

-- names of results as groups
select least(i, 3) / 2 as half, count(*) as n from t group by half;

-- names of results in results
select i, i + 1 as j, 2 * j as k from t;

-- lists as rows
select distinct i, unnest(nd_first(w, 2)) as a from t;

-- lists of the highest
select s, unnest(nd_first(nd_highest_by(i, d, 2), 1)) as a from t group by s;

-- products of lists
select t.i, u.i as j, nd_dot(t.e, u.e) as a, cast(nd_dot(t.e, u.e) as double) as b from t cross join t as u;

-- elements of lists
select i, nd_contains(w, 'q') as a, w is null or nd_contains(w, s) as b from t;

-- whole sums
select s, nd_total(i) as a, nd_total(2000000000 + i) as b from t group by s;

-- bytes
select i, b from t where b is not null;

-- the dissection that nobody names
select coalesce(nd_named_dissection(), max(i)) as a from t;

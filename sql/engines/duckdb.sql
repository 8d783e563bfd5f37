-- The nd_ functions: all that the views need beyond the SQL that every engine shares, once per engine.

create or replace macro nd_dot(a, b) as list_dot_product(a, b);

-- The dissection that a session names: set variable dissection = 1; NULL where it names none.
create or replace macro nd_named_dissection() as cast(getvariable('dissection') as integer);

-- Schema 2 to 3.

-- A module that runs several times in a pass: which of its runs a layer is.
alter table layers add column call integer;
comment on column layers.call is 'Which run of the module in a pass, from 1; NULL: the last';

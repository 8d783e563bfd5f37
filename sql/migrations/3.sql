-- Schema 2 to 3.

-- Files that were left out are counted; of datasets that were scanned before, nothing is known.
create table left_out (
    dataset_id integer not null,
    reason varchar not null,
    detail varchar not null,
    files bigint not null
);

-- A module that runs several times in a pass: which of its runs a layer is.
alter table layers add column call integer;
comment on column layers.call is 'Which run of the module in a pass, from 1; NULL: the last';

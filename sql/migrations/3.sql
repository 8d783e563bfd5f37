-- Schema 2 to 3.

-- Files that were left out are counted; of datasets that were scanned before, nothing is known.
create table left_out (
    dataset_id integer not null,
    reason varchar not null,
    detail varchar not null,
    files bigint not null
);

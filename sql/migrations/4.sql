-- Schema 3 to 4.

-- Labels get a p within classes. Stored labels have none, and views count the test as unknown, not as passed. Without
-- their entries in the ledger, `extract` labels these layers again, once.
alter table label_checks add column p_within double;
delete from labelled_layers;

-- Schema 5 to 6.

-- Concepts get a category. Those of sets that are there already stay without one.
alter table concepts add column category varchar;

-- Datasets get to unite several sources, and images to have attributes. All datasets so far have one source and none.
alter table images add column source varchar;
create table image_attributes (
    image_id integer not null,
    attribute varchar not null,
    value varchar not null
);

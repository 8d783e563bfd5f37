-- Schema 4 to 5.

-- The images of a block get to depend on how long the models take. All blocks so far have 4,096.
alter table splits add column block_images integer default 4096;
alter table splits alter column block_images drop default;
alter table splits alter column block_images set not null;

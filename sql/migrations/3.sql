-- Schema 2 to 3.

select 1;

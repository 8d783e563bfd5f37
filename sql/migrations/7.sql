-- Schema 6 to 7.

-- Where images are in groups, p is computed from one image of each. The next extract labels such layers anew.
alter table label_checks add column p double;

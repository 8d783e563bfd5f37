-- The labels that pass every test that was run: chance, and split halves, classes or both.
-- grain: network, layer, unit, dissection_id
-- public
--
-- tests: the names of the tests that were run. A label that was tested against chance alone is calibrated but not
-- robust, and has no row. Neither has a label whose test within classes is outstanding. label_tests has the tests of
-- every label.

select
    network,
    layer,
    unit,
    concept,
    similarity,
    z,
    p,
    q,
    z_within_class,
    p_within,
    q_within,
    bootstrap_share,
    'q'
    || case when halves_agree is null then '' else ', split_half' end
    || case when beats_classes is null then '' else ', within_class' end as tests,
    dissection_id
from label_tests
where robust

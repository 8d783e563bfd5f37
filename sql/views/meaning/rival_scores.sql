-- The label that a method gives a neuron, and how well it describes what the neuron does.
-- grain: rival_id, neuron_id, reference
-- public
--
-- Every network, set of images and CLIP that was judged is here, whichever dissection the other views show.
--
-- dissectdb judge judges the labels of files and those of the study's own dissections. control: none, the method's own
-- labels; random and shuffled labels show what labels that mean nothing get.
-- reference: what says where the concept is. clip: its presence by CLIP. class: the true classes that the label stands
-- for. sharing: neurons of the layer with the same label, by the method.
-- output, names_output and output_similarity are NULL unless the layer is the network's output.

with

labelled as (

    select
        rival_labels.*,
        named_neurons.layer,
        named_neurons.unit,
        count(*) over (
            partition by rival_labels.rival_id, named_neurons.layer_id, rival_labels.rival_text_id
        ) as sharing
    from rival_labels
    inner join named_neurons on rival_labels.neuron_id = named_neurons.neuron_id

)

select
    named_rivals.network,
    labelled.layer,
    labelled.unit,
    named_rivals.method,
    named_rivals.control,
    rival_texts.text as label,
    rival_quality.reference,
    rival_quality.pearson,
    rival_quality.ap,
    rival_quality.ap_corrected,
    rival_quality.f1,
    rival_quality.iou,
    rival_quality.auc,
    rival_quality.z,
    rival_quality.p,
    rival_quality.q,
    labelled.sharing,
    labelled.output,
    labelled.names_output,
    labelled.output_similarity,
    named_rivals.clip,
    named_rivals.dataset,
    named_rivals.split,
    labelled.neuron_id,
    labelled.rival_id,
    named_rivals.dissection_id
from labelled
inner join named_rivals on labelled.rival_id = named_rivals.rival_id
inner join rival_texts on labelled.rival_text_id = rival_texts.rival_text_id
inner join rival_quality
    on
        labelled.rival_id = rival_quality.rival_id
        and labelled.neuron_id = rival_quality.neuron_id

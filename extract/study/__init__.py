"""The study file: a description of what to examine. Imports no torch."""

from dissectdb.extract.study.datasets import Dataset
from dissectdb.extract.study.edits import READS, Edit, Effects, Protocol, Sweep
from dissectdb.extract.study.inputs import WHOLE_CLIPS, Arrays, Clip, Controls, Input, Judge, Layer, Network
from dissectdb.extract.study.overrides import StudyError
from dissectdb.extract.study.study_file import (
    LEAST_IMAGES,
    STORED_IMAGES,
    ArraysStudy,
    ConceptSet,
    Dissection,
    NetworkStudy,
    Study,
)
from dissectdb.extract.study.values import Pooling, Settings, read_as, way, written

__all__ = [
    "LEAST_IMAGES",
    "READS",
    "STORED_IMAGES",
    "WHOLE_CLIPS",
    "Arrays",
    "ArraysStudy",
    "Clip",
    "ConceptSet",
    "Controls",
    "Dataset",
    "Dissection",
    "Edit",
    "Effects",
    "Input",
    "Judge",
    "Layer",
    "Network",
    "NetworkStudy",
    "Pooling",
    "Protocol",
    "Settings",
    "Study",
    "StudyError",
    "Sweep",
    "read_as",
    "way",
    "written",
]

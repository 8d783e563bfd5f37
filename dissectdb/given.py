"""Objects of Python that take the place of what a study would name: a network, and images.

pipeline.extract(study, "w.duckdb", given=Given(model=model, images=dataset))

The study still says everything else: layers, preprocessing, CLIP, concepts. Its network.architecture is a name for the
class of the model, and its dataset has kind = "python" without a path. (dissectdb.dissect writes such a study.)
"""

from __future__ import annotations

from dataclasses import dataclass

OBJECT = "object:"  # the beginning of network.architecture where the network is an object


@dataclass(frozen=True)
class Given:
    """model: a torch module, which stays as it is. images: a map-style Dataset, or a list of files or of images."""

    model: object = None
    images: object = None

    @property
    def is_something(self) -> bool:
        return self.model is not None or self.images is not None


NOTHING = Given()


def architecture_of(model: object) -> str:
    """What a study and the table `networks` call the class of a model: object:torchvision.models.resnet.ResNet."""
    kind = type(model)
    return f"{OBJECT}{kind.__module__}.{kind.__qualname__}"

"""Which layers have places in the image: maps and tokens that fit the network's own maps, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dissectdb.extract.models.grids import Grid
from dissectdb.extract.models.hooks import find_taps, record
from dissectdb.extract.study import Layer


class Tokens(nn.Module):
    """Patches by a convolution, before them `extra` tokens, and attention as a matrix."""

    def __init__(self, extra: int = 1, convolves: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 6, 4, 4) if convolves else nn.Linear(16, 6)
        self.extra = nn.Parameter(torch.randn(1, extra, 6))
        self.block, self.weights, self.queries = nn.Linear(6, 6), nn.Softmax(-1), nn.Linear(6, 5)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        if isinstance(self.patch, nn.Conv2d):
            x = self.patch(x).flatten(2).transpose(1, 2)
        else:
            x = self.patch(x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(1, 3).flatten(2))
        x = self.block(torch.cat([self.extra.expand(len(x), -1, -1), x], dim=1))
        attention = self.weights(x[:, None] @ x[:, None].transpose(-1, -2)).expand(-1, 2, -1, -1)
        self.queries(x[:, :1].repeat(1, 40, 1))
        return self.head((attention[:, 0] @ x).mean(1))


def grids(model: nn.Module, *names: str, shape: tuple[int, ...] = (1, 16, 16), **options: object) -> list[Grid | None]:
    taps = find_taps(model.eval(), [Layer(name=name, **options) for name in names], shape)
    return [next(tap.grid for tap in taps if tap.layer == name) for name in names]


@pytest.mark.parametrize("convolves", [True, False])
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_tokens_after_the_class_token_and_registers_are_the_grid(extra: int, convolves: bool) -> None:
    assert grids(Tokens(extra, convolves), "block", "head") == [Grid(4, 4, extra), None]


def test_tokens_of_no_place_are_told_and_only_beside_a_grid_that_a_module_makes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "dissectdb"):
        assert grids(Tokens(0), "block") == [Grid(4, 4)]
        assert not caplog.records
        assert grids(Tokens(5), "block") == [Grid(4, 4, 5)]
    assert "of the tokens of block, the first 5 are taken to be of no place, the others of 4 × 4 places" in caplog.text

    class Latents(nn.Module):
        """Six latents, as many as 2 × 2 places and two others; 2 × 2 is the patches' grid halved."""

        def __init__(self) -> None:
            super().__init__()
            self.patch, self.latents = nn.Conv2d(1, 6, 4, 4), nn.Parameter(torch.randn(1, 6, 6))
            self.mixed, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(self.mixed((self.latents @ x.transpose(1, 2)).softmax(-1) @ x).mean(1))

    assert grids(Latents(), "mixed") == [None]


def test_attention_between_tokens_and_queries_have_no_places() -> None:
    assert grids(Tokens(), "weights", "queries") == [None, None]


def test_a_number_of_the_class_token_has_no_places() -> None:
    assert grids(Tokens(), "block", pooling="cls") == [None]


def test_halved_maps_and_channels_last_have_places() -> None:
    class Merging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.head = nn.Conv2d(1, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.stem(x).permute(0, 2, 3, 1)[:, ::2, ::2]
            return self.head(self.norm(x).mean((1, 2)))

    assert grids(Merging(), "stem", "norm", shape=(1, 24, 24)) == [Grid(12, 12), Grid(6, 6)]


def test_one_place_is_no_map() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert grids(model, "0", "1", "3", shape=(1, 8, 8)) == [Grid(6, 6), None, None]


def test_maps_are_shown_as_the_layer_gave_them() -> None:
    model = Tokens(extra=2).eval()
    [tap] = find_taps(model, [Layer(name="block")], (1, 16, 16))
    seen, outputs = {}, []
    handle = model.block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.inference_mode(), record(model, [tap], lambda tap, maps, values: seen.update({tap.name: maps})):
        model(torch.rand(3, 1, 16, 16))
    handle.remove()
    assert torch.equal(seen["block"], outputs[0][:, 2:].transpose(1, 2).reshape(3, 6, 4, 4))

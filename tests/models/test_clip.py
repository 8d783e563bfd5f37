"""CLIP through open_clip, on tiny models with random weights; nothing is fetched."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from dissectdb.extract import study
from dissectdb.extract.models import clip, devices
from tests.support.mistakes import mistake

CPU = torch.device("cpu")
TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def write(folder: Path, name: str, config: dict[str, Any] = TINY, seed: int = 0, **attributes: float) -> study.Clip:
    """A config and random weights beside it; attributes: numbers set in the model before it is saved."""
    (folder / f"{name}.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(
        **{key: value for key, value in config.items() if key != "custom_text"}
    )
    for attribute, value in attributes.items():
        getattr(model, attribute).data.fill_(value)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return settings_of(folder, name)


def settings_of(folder: Path, name: str, **changes: Any) -> study.Clip:
    values = {"architecture": name, "weights": str(folder / f"{name}.safetensors"), "config": folder / f"{name}.json"}
    return study.Clip.model_validate(values | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> clip.Clip:
    return clip.load(write(folder, "mini-clip"), CPU)


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [(48, 48), (60, 41, 3), (33, 70, 3), (32, 32, 3)]
    small = [random.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in shapes]
    whole = [np.array(Image.fromarray(s).resize(h[1::-1], 3)) for s, h in zip(small, shapes, strict=True)]
    return [image if len(shape) == 3 else image[..., 0] for image, shape in zip(whole, shapes, strict=True)]


# ---------------------------------------------------------------- embeddings


@pytest.mark.parametrize("preprocess", ["shortest", "squash", "longest"])
def test_images_are_embedded_as_by_the_models_own_transform(
    tiny: clip.Clip, preprocess: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**tiny.model.visual.preprocess_cfg, "resize_mode": preprocess}
    monkeypatch.setattr(tiny.model.visual, "preprocess_cfg", settings)
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**settings), is_train=False)
    images = pictures()
    ours = tiny.embed_images(clip._recipe(tiny.model).apply(images, CPU))
    with torch.no_grad():
        theirs = tiny.model.encode_image(torch.stack([transform(Image.fromarray(image)) for image in images]))
    assert torch.cosine_similarity(ours, theirs).min() > 0.999
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(len(images)))


def test_the_recipe_is_the_models_own_preprocessing(tiny: clip.Clip) -> None:
    assert tiny.recipe == clip.Recipe(
        size=32,
        mode="rgb",
        resize="shortest",
        interpolation="bicubic",
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
    )


def test_a_concept_is_the_mean_over_templates_of_unit_embeddings(tiny: clip.Clip) -> None:
    templates = ["{}", "a face with {}", "a photo of a face with {}, close"]
    ours = tiny.embed_concepts(["Smile", "Frown"], templates)
    with torch.no_grad():
        for row, concept in zip(ours, ["Smile", "Frown"], strict=True):
            tokens = tiny.tokenize([template.replace("{}", concept) for template in templates])
            mean = F.normalize(tiny.model.encode_text(tokens), dim=1).mean(0)
            torch.testing.assert_close(row, mean / mean.norm())
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(2))


def test_many_concepts_are_embedded_in_few_batches_and_each_as_if_alone(
    tiny: clip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = tiny.model.encode_text
    monkeypatch.setattr(tiny.model, "encode_text", lambda tokens: sizes.append(len(tokens)) or encode(tokens))
    monkeypatch.setitem(clip.TEXTS_AT_ONCE, "cpu", 4)
    names, templates = [f"concept {number}" for number in range(7)], ["{}", "a {}", "{} here"]
    together = tiny.embed_concepts(names, templates)
    assert sizes == [4, 4, 4, 4, 4, 1]
    alone = torch.cat([tiny.embed_concepts([name], templates) for name in names])
    torch.testing.assert_close(together, alone)


def test_a_concept_with_braces_goes_into_the_template_as_it_is(tiny: clip.Clip) -> None:
    torch.testing.assert_close(tiny.embed_concepts(["{} {0}"], ["a {}"]), tiny.embed_concepts(["a {} {0}"], ["{}"]))


# ---------------------------------------------------------------- scale and bias


def test_the_logit_scale_is_the_factor_on_cosines(folder: Path) -> None:
    loaded = clip.load(write(folder, "mini-scaled", logit_scale=float(np.log(50))), CPU)
    assert loaded.logit_scale == pytest.approx(50)
    assert loaded.logit_bias is None


@pytest.mark.parametrize("custom_text", [False, True])
def test_a_siglip_model_keeps_its_bias(folder: Path, custom_text: bool) -> None:
    config = {**TINY, "init_logit_bias": -10, "custom_text": custom_text}
    loaded = clip.load(write(folder, f"mini-sigmoid-{custom_text}", config, logit_bias=-7.5), CPU)
    assert loaded.logit_bias == -7.5
    assert loaded.embed_concepts(["a", "b"], ["{}"]).shape == (2, 8)


def test_openais_tags_get_the_quick_gelu_that_they_were_trained_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write(folder, "mini-gelu")
    plain = clip.load(settings, CPU)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "mini-gelu", {"openai": {"quick_gelu": True, "url": "x"}})
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *args, **options: settings.weights)
    quick = clip.load(settings.model_copy(update={"weights": "openai"}), CPU)
    kinds = {type(module).__name__ for module in quick.model.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds
    assert quick.fingerprint != plain.fingerprint


# ---------------------------------------------------------------- fingerprints


def test_the_fingerprint_is_of_weights_and_config_not_of_files(folder: Path, tmp_path: Path) -> None:
    first = clip.load(write(folder, "mini-print"), CPU).fingerprint
    state = load_file(folder / "mini-print.safetensors")
    torch.save({"state_dict": state}, tmp_path / "other.pt")
    as_pt = settings_of(folder, "mini-print", weights=str(tmp_path / "other.pt"))
    assert clip.load(as_pt, CPU).fingerprint == first
    state["logit_scale"].view(-1).view(torch.uint8)[0] ^= 1
    torch.save(state, tmp_path / "other.pt")
    assert clip.load(as_pt, CPU).fingerprint != first
    config = {**TINY, "quick_gelu": True}
    assert clip.load(write(folder, "mini-print", config), CPU).fingerprint != first


def test_an_edited_config_of_the_same_name_counts(folder: Path) -> None:
    clip.load(write(folder, "mini-edited"), CPU)
    wider = {**TINY, "embed_dim": 12}
    assert clip.load(write(folder, "mini-edited", wider), CPU).embed_concepts(["a"], ["{}"]).shape == (1, 12)


# ---------------------------------------------------------------- mistakes


def builtin(**changes: str) -> study.Clip:
    return study.Clip.model_validate({"architecture": "ViT-B-16", "weights": "openai"} | changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (builtin(architecture="ViT-B-61"), "clip.architecture: open_clip has no 'ViT-B-61'; did you mean ViT-B-16"),
        (builtin(architecture="hub:a/b"), "clip.architecture: open_clip has no 'hub:a/b'; or give clip.config, "),
        (
            builtin(weights="opnai"),
            "clip.weights: ViT-B-16 has no pretrained tag 'opnai'; did you mean openai? it has ",
        ),
        (builtin(weights="none.pt"), "clip.weights: none.pt: no such file"),
        (
            builtin(weights="./"),
            "clip: ViT-B-16 could not take .: a folder without config.json; name a file of weights",
        ),
        (builtin(config="none.json"), "clip.config: none.json: no such file"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_with_what_is(settings: study.Clip, message: str) -> None:
    assert mistake(lambda: clip.load(settings, CPU)).startswith(message)


def test_a_config_is_named_like_the_architecture(folder: Path) -> None:
    write(folder, "mini-named")
    other = settings_of(folder, "mini-named", architecture="another")
    assert mistake(lambda: clip.load(other, CPU)).startswith("clip.architecture is 'another', but open_clip names ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("\xff", "not readable as JSON"),
        ("[1]", "is not a model config of open_clip"),
        ('{"embed_dim": 8}', "is not a model config of open_clip"),
    ],
)
def test_a_config_that_is_none_is_an_error_and_harms_no_later_one(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="latin-1")
    assert message in mistake(lambda: clip.load(settings_of(tmp_path, "bad"), CPU))
    clip.load(write(tmp_path, "mini-later"), CPU)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_weights_that_carry_code_are_refused_and_the_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    write(folder, "mini-trap")
    path = tmp_path / "trap.pt"
    torch.save({"state_dict": load_file(folder / "mini-trap.safetensors"), "trap": Trap(tmp_path / "sprung")}, path)
    said = mistake(lambda: clip.load(settings_of(folder, "mini-trap", weights=str(path)), CPU))
    assert said == (
        f"clip: mini-trap could not take {path}: holds more than tensors (posix.mkdir), and loading it could run code; "
        "save its state_dict() only"
    )
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_model_are_an_error_of_readable_length(folder: Path, tmp_path: Path) -> None:
    write(folder, "mini-other")
    save_file({"visual.head": torch.zeros(1), "logit_scale": torch.zeros(())}, tmp_path / "other.safetensors")
    settings = settings_of(folder, "mini-other", weights=str(tmp_path / "other.safetensors"))
    said = mistake(lambda: clip.load(settings, CPU))
    assert "weights are missing: " in said
    assert len(said) < 600


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_a_file_that_holds_no_weights_is_an_error(folder: Path, tmp_path: Path, content: bytes, suffix: str) -> None:
    if not (folder / "mini-empty.json").exists():
        write(folder, "mini-empty")
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    said = mistake(lambda: clip.load(settings_of(folder, "mini-empty", weights=str(path)), CPU))
    assert said.removeprefix("clip: mini-empty could not take ").startswith(f"{path}: ")


def test_weights_with_nan_are_refused_by_name(folder: Path) -> None:
    settings = write(folder, "mini-nan", logit_scale=float("nan"))
    assert mistake(lambda: clip.load(settings, CPU)) == (
        f"clip mini-nan: logit_scale holds NaN or infinity in {settings.weights}"
    )


def test_images_that_are_not_square_are_refused(folder: Path) -> None:
    config = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": [32, 16]}}
    assert mistake(lambda: clip.load(write(folder, "mini-oblong", config), CPU)).endswith(
        "only square ones are supported"
    )


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_images_are_embedded_in_the_precision_that_a_study_asks_for(folder: Path, precision: str) -> None:
    settings = write(folder, "tiny")
    full, half = (clip.load(settings.model_copy(update={"precision": p}), CPU) for p in ("float32", precision))
    pixels = full.recipe.apply(pictures(), CPU)
    one, other = full.embed_images(pixels), half.embed_images(pixels)
    assert other.dtype == torch.float32
    torch.testing.assert_close(other.norm(dim=1), torch.ones(len(pixels)))
    assert float(torch.cosine_similarity(one, other).min()) > 0.999
    assert not torch.equal(one, other)
    torch.testing.assert_close(full.embed_concepts(["Smile"], ["{}"]), half.embed_concepts(["Smile"], ["{}"]))


def test_another_precision_is_another_clip_unless_the_device_chooses_it(folder: Path) -> None:
    settings = write(folder, "tiny")
    loaded = {p: clip.load(settings.model_copy(update={"precision": p}), CPU)
              for p in ("auto", "float32", "bfloat16")}  # fmt: skip
    assert len({each.fingerprint for each in loaded.values()}) == 3
    assert [each.precision for each in loaded.values()] == ["float32", "float32", "bfloat16"]


def test_a_model_that_mixes_in_numbers_of_its_own_is_turned_by_autocast(folder: Path) -> None:
    settings = write(folder, "tiny")
    loaded = clip.load(settings, CPU)
    pixels = loaded.recipe.apply(pictures(), CPU)
    full = loaded.embed_images(pixels)
    loaded.model.visual.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    clip._keep_images_in(loaded.model, torch.bfloat16, torch.zeros(1, 3, 32, 32))
    assert next(loaded.model.visual.parameters()).dtype == torch.float32
    half = replace(loaded, precision="bfloat16").embed_images(pixels)
    assert not torch.equal(full, half)
    assert float(torch.cosine_similarity(full, half).min()) > 0.999


@pytest.mark.parametrize(("architecture", "is_small"), [("ViT-B-32", False), ("RN50", False), ("mini-clip", True)])
def test_a_gpu_embeds_images_in_float16_unless_the_model_is_small(
    tiny: clip.Clip, architecture: str, is_small: bool
) -> None:
    config = {key: open_clip.get_model_config(architecture)[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    with torch.device("meta"):  # operations are counted without computing
        model = open_clip.CLIP(**config).eval()
        probe = torch.zeros(1, 3, *[config["vision_cfg"]["image_size"]] * 2)
    assert clip.is_small(model, probe) == is_small
    assert clip.default_precision(model, probe) == "float32", "this is no GPU"


def test_a_network_in_tf32_does_not_round_the_factors_of_clip() -> None:
    devices.allow_tf32(True)
    try:
        with devices.full_precision(torch.device("cuda")):
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        devices.allow_tf32(False)


def test_a_package_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        study.StudyError, match=r"needs the package open_clip, which cannot be imported \(ModuleNotFoundError"
    ):
        clip.load(study.Clip(architecture="ViT-B-32", weights="openai"), torch.device("cpu"))

"""CLIP in the files that people have: each gives the embeddings of the plain file, and no code of a file is run."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from dissectdb import completed_runs
from dissectdb.extract import study
from dissectdb.extract.models import clip, clip_files, torchscript
from tests.models.test_clip import TINY, settings_of, write
from tests.support.mistakes import mistake

CPU = torch.device("cpu")
TEXTS = ["a cat", "a small dog on the grass", "blue"]
PIXELS = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32))
WIDE = {**TINY, "text_cfg": {**TINY["text_cfg"], "width": 16, "layers": 2}}  # 2 heads of 8, in 2 layers
SIGLIP = {
    "embed_dim": 16,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "timm_model_name": "filed_vit", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2, "no_causal_mask": True,
        "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    },
}  # fmt: skip


@timm.models.register_model
def filed_vit(**options: Any) -> Any:
    """A tiny image tower like SigLIP's."""
    options = {key: value for key, value in options.items() if key in ("num_classes", "global_pool")}
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "class_token": False}
    return timm.models.vision_transformer.VisionTransformer(**{**sizes, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip_files")


@pytest.fixture(scope="module")
def plain(folder: Path) -> study.Clip:
    """A tiny CLIP with random weights, as safetensors of open_clip's names."""
    return write(folder, "filed", WIDE)


def embeddings(settings: study.Clip) -> torch.Tensor:
    loaded = clip.load(settings, CPU)
    texts = loaded.embed_concepts(TEXTS, ["{}", "a photo of {}"])
    return torch.cat([loaded.embed_images(PIXELS), texts])


def with_weights(settings: study.Clip, path: Path, **changes: Any) -> study.Clip:
    return study.Clip.model_validate(settings.model_dump() | {"weights": str(path)} | changes)


def tensors_of(settings: study.Clip) -> dict[str, torch.Tensor]:
    return load_file(str(settings.weights))


# ---------------------------------------------------------------- checkpoints of training


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod."])
def test_a_training_checkpoint_of_open_clip(plain: study.Clip, tmp_path: Path, prefix: str) -> None:
    tensors = tensors_of(plain)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    stored = {
        "epoch": 32,
        "name": "a run",
        "state_dict": {f"{prefix}{name}": tensor for name, tensor in tensors.items()},
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0},
        "loss": np.float64(0.5),
    }
    torch.save(stored, tmp_path / "epoch_32.pt")
    loaded = with_weights(plain, tmp_path / "epoch_32.pt")
    assert torch.equal(embeddings(loaded), embeddings(plain))
    assert clip.load(loaded, CPU).fingerprint == clip.load(plain, CPU).fingerprint


# ---------------------------------------------------------------- TorchScript


def trace(model: torch.nn.Module, path: Path) -> None:
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        inputs = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.long))
        torch.jit.trace(model.eval(), inputs).save(str(path))


def model_of(settings: study.Clip, **options: Any) -> Any:
    config = json.loads(Path(str(settings.config)).read_text())
    model = open_clip.CLIP(**config, **options)
    model.load_state_dict(tensors_of(settings))
    return model


@pytest.fixture(scope="module")
def archives(plain: study.Clip, folder: Path) -> tuple[Path, Path]:
    """TorchScript archives: of open_clip; as OpenAI publishes, in half precision with three numbers beside."""
    model = model_of(plain)
    trace(model, folder / "traced.pt")
    open_clip.model.convert_weights_to_fp16(model)
    numbers = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}
    with warnings.catch_warnings(action="ignore"):
        held = Held(model.state_dict() | {name: torch.tensor(value) for name, value in numbers.items()})
        torch.jit.script(held).save(str(folder / "openai.pt"))
    return folder / "traced.pt", folder / "openai.pt"


class Held(torch.nn.Module):
    """A module with the parameters of a state dict, under the same names, that can be scripted."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if not rest:
                self.register_buffer(first, tensor.clone())
        for part in sorted({name.partition(".")[0] for name in tensors if "." in name}):
            inner = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
            self.add_module(part, Held(inner))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value


def refuse_to_run(*_: object, **__: object) -> None:
    raise AssertionError("the archive's code would run")


def test_a_torchscript_archive_is_read_without_its_code(
    plain: study.Clip, archives: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.jit, "load", refuse_to_run)
    expected = tensors_of(plain)
    assert {name: tensor.shape for name, tensor in torchscript.read(archives[0]).items() if name in expected} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert torch.equal(embeddings(with_weights(plain, archives[0])), embeddings(plain))


def test_openais_archive_gets_the_quick_gelu_that_it_was_trained_with(
    plain: study.Clip, archives: tuple[Path, Path], folder: Path
) -> None:
    quick = write(folder, "filed-quickgelu", {**WIDE, "quick_gelu": True})
    assert clip_files.read(archives[1]).quick_gelu is True
    named_plain, named_quick = (embeddings(with_weights(each, archives[1])) for each in (plain, quick))
    assert torch.equal(named_plain, named_quick)
    torch.testing.assert_close(named_plain, embeddings(quick), atol=2e-3, rtol=0)  # it is stored in half precision
    assert (named_plain - embeddings(plain)).abs().max() > 2e-3


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        import os

        return os.mkdir, (str(self.path),)


def with_values(archive: Path, path: Path, values: bytes) -> Path:
    """A copy of an archive with another data.pkl."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, values if name.endswith("/data.pkl") else old.read(name))
    return path


def with_bound(count: int) -> bytes:
    """Pickled values of a module whose one tensor has `count` numbers in the bytes of the first parameter."""
    kind = b"ctorch\nFloatStorage\n"
    stored = b"(X\x07\x00\x00\x00storage" + kind + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"
    size = b"K\x00(J" + count.to_bytes(4, "little", signed=True) + b"t(K\x01t\x89ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + size + b"tR"
    return b"\x80\x02c__torch__\nModule\n)\x81}X\x06\x00\x00\x00weight" + tensor + b"sb."


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (lambda path: pickle.dumps(Harm(path), protocol=2), "holds more than tensors (posix.mkdir), and loading it"),
        (lambda path: b"\x80\x02cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.", "holds more than tensors (builtins.eval)"),
        (lambda path: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00a.", "holds no tensors"),
        (lambda path: with_bound(2**30), "not a readable checkpoint"),
        (lambda path: b"\x80", "not a readable checkpoint"),
        (lambda path: b"", "not a readable checkpoint"),
    ],
)
def test_an_archive_with_harmful_or_damaged_values_is_one_line_and_nothing_runs(
    plain: study.Clip, archives: tuple[Path, Path], tmp_path: Path, values: Callable[[Path], bytes], why: str
) -> None:
    path = with_values(archives[0], tmp_path / "bad.pt", values(tmp_path / "sprung"))
    said = mistake(lambda: clip.load(with_weights(plain, path), CPU))
    assert said.startswith(f"clip: filed could not take {path}: {why}")
    assert "\n" not in said
    assert not (tmp_path / "sprung").exists()


def test_the_bytes_of_a_tensor_are_those_of_the_archive(archives: tuple[Path, Path], tmp_path: Path) -> None:
    path = with_values(archives[0], tmp_path / "small.pt", with_bound(4))
    assert torchscript.read(path)["weight"].shape == (4,)


def test_an_archive_that_is_cut_is_one_line(plain: study.Clip, archives: tuple[Path, Path], tmp_path: Path) -> None:
    whole = archives[0].read_bytes()
    for share in (0.3, 0.9):
        (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
        said = mistake(lambda: clip.load(with_weights(plain, tmp_path / "cut.pt"), CPU))
        assert said.startswith(f"clip: filed could not take {tmp_path / 'cut.pt'}: ")


# ---------------------------------------------------------------- transformers


def transformers_clip(folder: Path, **text: Any) -> Any:
    """A random CLIPModel of transformers with the sizes of WIDE, saved into the folder."""
    import transformers

    torch.manual_seed(3)
    shared = {"hidden_act": "gelu", "layer_norm_eps": 1e-5}
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 16, "vocab_size": 49408, "eos_token_id": 49407, **shared, **text,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8, **shared,
        },
        projection_dim=8,
    )  # fmt: skip
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def transformers_siglip(folder: Path) -> Any:
    """A random SiglipModel of transformers with the sizes of SIGLIP, saved into the folder."""
    import transformers

    torch.manual_seed(4)
    shared = {"hidden_size": 16, "intermediate_size": 64, "num_attention_heads": 2, "hidden_act": "gelu"}
    config = transformers.SiglipConfig(
        text_config={"num_hidden_layers": 2, "max_position_embeddings": 16, "vocab_size": 49408, **shared},
        vision_config={"num_hidden_layers": 2, "image_size": 32, "patch_size": 8, **shared},
    )
    model = transformers.SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def same_directions(model: Any, loaded: clip.Clip) -> None:
    """The model of transformers embeds images and texts like the loaded CLIP."""
    tokens = loaded.tokenize(["a cat", "grass"])
    with torch.no_grad():
        theirs = [model.get_image_features(pixel_values=PIXELS), model.get_text_features(input_ids=tokens)]
    theirs = [each if isinstance(each, torch.Tensor) else each.pooler_output for each in theirs]
    ours = [loaded.embed_images(PIXELS), loaded.embed_concepts(["a cat", "grass"], ["{}"])]
    for their, our in zip(theirs, ours, strict=True):
        torch.testing.assert_close(our, F.normalize(their, dim=-1), atol=1e-5, rtol=0)
    assert loaded.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_a_clip_of_transformers_embeds_as_it_does_there(plain: study.Clip, tmp_path: Path) -> None:
    model = transformers_clip(tmp_path)
    settings = with_weights(plain, tmp_path)
    same_directions(model, clip.load(settings, CPU))
    again = tmp_path / "in_open_clip.safetensors"
    save_file({name: each.contiguous() for name, each in clip_files.read(tmp_path).tensors.items()}, again)
    assert torch.equal(embeddings(with_weights(plain, again)), embeddings(settings))


def test_a_siglip_of_transformers_embeds_as_it_does_there(folder: Path, tmp_path: Path) -> None:
    model = transformers_siglip(tmp_path)
    (folder / "filed-sigmoid.json").write_text(json.dumps(SIGLIP))
    loaded = clip.load(settings_of(folder, "filed-sigmoid", weights=str(tmp_path)), CPU)
    same_directions(model, loaded)
    assert loaded.logit_bias == pytest.approx(float(model.logit_bias.detach()))
    assert (loaded.recipe.mean, loaded.recipe.std, loaded.recipe.resize) == ((0.5,) * 3, (0.5,) * 3, "squash")


def test_a_folder_of_transformers_may_have_a_pickle_or_several_files(plain: study.Clip, tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    expected = embeddings(with_weights(plain, tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    assert torch.equal(embeddings(with_weights(plain, tmp_path)), expected)
    (tmp_path / "pytorch_model.bin").unlink()
    places = {name: f"model-{position % 2}.safetensors" for position, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert torch.equal(embeddings(with_weights(plain, tmp_path)), expected)
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    assert "names '../outside.safetensors', which is not there" in mistake(lambda: clip_files.read(tmp_path))


def test_the_activation_of_transformers_config_counts(folder: Path, plain: study.Clip, tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    quick = write(folder, "filed-quickgelu", {**WIDE, "quick_gelu": True})
    said = mistake(lambda: clip.load(with_weights(quick, tmp_path), CPU))
    assert said.endswith("has the quick GELU; write architecture = 'filed'")
    plainly = embeddings(with_weights(plain, tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower].pop("hidden_act")  # transformers' own default is OpenAI's
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(embeddings(with_weights(plain, tmp_path)), embeddings(with_weights(quick, tmp_path)))
    assert not torch.equal(embeddings(with_weights(plain, tmp_path)), plainly)
    config["text_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "has the activation gelu, quick_gelu; open_clip has" in mistake(lambda: clip_files.read(tmp_path))


def test_another_number_of_heads_is_refused_because_shapes_do_not_show_it(plain: study.Clip, tmp_path: Path) -> None:
    transformers_clip(tmp_path, num_attention_heads=4)
    said = mistake(lambda: clip.load(with_weights(plain, tmp_path), CPU))
    assert "its config.json has 4 heads in the text tower, and the architecture has 2" in said


def test_the_preprocessing_of_transformers_is_taken_over(plain: study.Clip, tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    stated = {
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 2, "do_center_crop": True,
        "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32},
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    recipe = clip.load(with_weights(plain, tmp_path), CPU).recipe
    assert (recipe.mean, recipe.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert (recipe.resize, recipe.interpolation, recipe.size) == ("shortest", "bilinear", 32)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**stated, "size": {"shortest_edge": 36}}))
    assert "only one size is supported" in mistake(lambda: clip_files.read(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**stated, "resample": 1}))
    assert "resample = 1; only 2 (bilinear)" in mistake(lambda: clip_files.read(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "config.json").unlink(), "a folder without config.json; name a file of weights"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json: not a table of JSON"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'), "of type 'vit', not a CLIP"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors or pytorch_model.bin"),
        (lambda folder: keep(folder, "vision_model"), "has no text_model; images and concepts need both towers"),
        (lambda folder: keep(folder, "k_proj", leave_out=True), "q_proj.bias but not text_model"),
    ],
)
def test_a_folder_of_transformers_that_lacks_something_is_one_line(
    plain: study.Clip, tmp_path: Path, spoil: Callable[[Path], object], why: str
) -> None:
    transformers_clip(tmp_path)
    spoil(tmp_path)
    said = mistake(lambda: clip.load(with_weights(plain, tmp_path), CPU))
    assert said.startswith(f"clip: filed could not take {tmp_path}")
    assert why in said
    assert "\n" not in said


def keep(folder: Path, part: str, leave_out: bool = False) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if (part in k) != leave_out}, folder / "model.safetensors")


def test_a_file_of_transformers_is_named_by_its_folder(plain: study.Clip, tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    said = mistake(lambda: clip.load(with_weights(plain, tmp_path / "model.safetensors"), CPU))
    assert said.endswith(f"weights of transformers; name the folder: clip.weights = {str(tmp_path)!r}")


# ---------------------------------------------------------------- models of open_clip in a folder and on the hub


def write_folder(settings: study.Clip, folder: Path, **images: Any) -> None:
    """A folder as open_clip pushes it to the hub."""
    config = {"model_cfg": json.loads(Path(str(settings.config)).read_text()), "preprocess_cfg": images}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    shutil.copy(str(settings.weights), folder / "open_clip_model.safetensors")


def test_a_folder_of_open_clip_has_architecture_weights_and_preprocessing(plain: study.Clip, tmp_path: Path) -> None:
    write_folder(plain, tmp_path, mean=[0.4, 0.5, 0.6])
    settings = study.Clip(architecture=f"local-dir:{tmp_path}")
    assert torch.equal(embeddings(settings), embeddings(plain))
    assert clip.load(settings, CPU).recipe.mean == (0.4, 0.5, 0.6)
    said = mistake(lambda: clip.load(with_weights(plain, tmp_path), CPU))
    assert f'a folder of open_clip; write architecture = "local-dir:{tmp_path}", and no weights' in said


def test_a_folder_of_open_clip_without_weights_is_not_filled_with_random_numbers(
    plain: study.Clip, tmp_path: Path
) -> None:
    settings = study.Clip(architecture=f"local-dir:{tmp_path}")
    assert mistake(lambda: clip.load(settings, CPU)).endswith(f"{tmp_path}: it has no open_clip_config.json")
    write_folder(plain, tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert "it has no weights (.safetensors, .bin or .pth)" in mistake(lambda: clip.load(settings, CPU))
    torch.save({"trap": Harm(tmp_path / "sprung")}, tmp_path / "open_clip_pytorch_model.bin")
    assert "could not take" in mistake(lambda: clip.load(settings, CPU))
    assert not (tmp_path / "sprung").exists()
    gone = study.Clip(architecture=f"local-dir:{tmp_path / 'gone'}")
    assert mistake(lambda: clip.load(gone, CPU)).endswith("gone: no such folder")


def test_a_study_names_a_folder_of_open_clip_relative_to_itself_and_a_run_watches_it(
    plain: study.Clip, tmp_path: Path
) -> None:
    write_folder(plain, tmp_path)
    settings = study.Clip.model_validate({"architecture": "local-dir:here"}, context={"folder": tmp_path / "studies"})
    assert settings.architecture == f"local-dir:{tmp_path / 'studies' / 'here'}"
    paths: set[str] = set()
    completed_runs._with_absolute_paths({"architecture": f"local-dir:{tmp_path}"}, paths)
    assert paths == {str(tmp_path)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "ViT-B-16"}, "weights is missing; name a pretrained tag of open_clip, a file or a folder"),
        ({"architecture": "hf-hub:a/b", "weights": "openai"}, "weights would do nothing: hf-hub:a/b has its own"),
        ({"architecture": "local-dir:a", "config": "a.json"}, "config would do nothing: local-dir:a has its own"),
    ],
)
def test_weights_are_named_once(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.Clip.model_validate(values)


def test_a_model_on_the_hub_is_fetched_by_open_clip(
    plain: study.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(plain, tmp_path)
    asked: list[str] = []

    def downloaded(model_id: str, filename: str = "open_clip_model.safetensors", **_: object) -> str:
        asked.append(model_id)
        return str(tmp_path / filename)

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", downloaded)
    assert torch.equal(embeddings(study.Clip(architecture="hf-hub:a/b")), embeddings(plain))
    assert set(asked) == {"a/b"}


def test_a_model_on_the_hub_that_cannot_be_fetched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = mistake(lambda: clip.load(study.Clip(architecture="hf-hub:nobody/nothing-here"), CPU))
    assert said == (
        "clip: hf-hub:nobody/nothing-here could not be fetched: HF_HUB_OFFLINE is set, and they are not in the cache; "
        'download its folder elsewhere and write architecture = "local-dir:FOLDER"'
    )


# ---------------------------------------------------------------- which architecture


def shapes_of(architecture: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(open_clip.create_model(architecture, device="meta", pretrained_text=False).state_dict())


@pytest.mark.parametrize("architecture", ["ViT-B-16", "ViT-B-32", "ViT-L-14", "RN50", "RN50x4", "ViT-B-16-SigLIP"])
def test_weights_are_recognised_by_their_shapes(architecture: str) -> None:
    hint = clip_files.looks_like(shapes_of(architecture))
    assert hint.startswith("these weights look like ")
    assert architecture in hint.removeprefix("these weights look like ").split(" or ")


def test_weights_that_do_not_fit_are_an_error_that_names_what_they_look_like(
    plain: study.Clip, folder: Path, tmp_path: Path
) -> None:
    other = write(folder, "filed-other", {**TINY, "embed_dim": 12})
    said = mistake(lambda: clip.load(with_weights(other, Path(str(plain.weights))), CPU))
    assert said.endswith("; these weights look like filed")
    assert clip_files.looks_like({"conv1.weight": torch.zeros(3)}) == ""


@pytest.mark.parametrize(("tower", "key"), [("vision_cfg", "image_size"), ("text_cfg", "context_length")])
def test_weights_for_images_or_texts_of_another_size_are_refused_not_stretched(
    plain: study.Clip, tmp_path: Path, tower: str, key: str
) -> None:
    other = write(tmp_path, f"filed-{key}", {**WIDE, tower: {**WIDE[tower], key: 64}})
    said = mistake(lambda: clip.load(with_weights(other, Path(str(plain.weights))), CPU))
    assert "size mismatch for" in said
    assert "positional_embedding" in said


def test_siglip_from_a_local_file_gets_the_images_that_its_pretrained_weights_take() -> None:
    assert clip_files.usual_preprocessing("ViT-B-16-SigLIP") == clip_files.SIGLIP_IMAGES
    assert "mean" in clip_files.usual_preprocessing("ViT-B-32")
    assert clip_files.usual_preprocessing("filed") == {}

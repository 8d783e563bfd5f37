"""The drawn faces are what they say they are, and the shipped networks are as good as figures.json says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from dissectdb.extract.demo import make_weights, train_clip
from dissectdb.extract.demo.captions import TEMPLATES, auc, captions
from dissectdb.extract.demo.contact_sheet import write_contact_sheet
from dissectdb.extract.demo.faces import CLASSES, CONCEPTS, Faces, concept_truth, draw
from dissectdb.extract.demo.render import ACTION_UNITS, CONTROLS, render

DEMO = Path(make_weights.__file__).parent
FIGURES = json.loads((DEMO / "figures.json").read_text("utf-8"))
CLIP_WEIGHTS = DEMO / f"{make_weights.CLIP_NAME}.safetensors"
HELD_OUT = 77  # neither trained on, nor chosen on, nor in figures.json


@pytest.fixture(scope="module")
def faces() -> Faces:
    return draw(500, HELD_OUT)


@pytest.fixture(scope="module", autouse=True)
def _config() -> None:
    open_clip.add_model_config(DEMO / f"{make_weights.CLIP_NAME}.json")


def face(**controls: float) -> np.ndarray:
    """One face (48, 48), 0 to 1, with these controls and all others at 0."""
    row = np.zeros((1, len(CONTROLS)), np.float32)
    for name, value in controls.items():
        row[0, CONTROLS.index(name)] = value
    return render(row)[0]


def shown(**controls: float) -> set[str]:
    """The concepts that a face with these controls shows."""
    row = np.zeros((1, len(CONTROLS)), np.float32)
    for name, value in controls.items():
        row[0, CONTROLS.index(name)] = value
    return {concept for concept, here in zip(CONCEPTS, concept_truth(row)[0], strict=True) if here}


def test_a_face_depends_on_its_seed_and_number_alone(faces):
    again = draw(500, HELD_OUT)
    assert np.array_equal(faces.pixels, again.pixels)
    assert np.array_equal(faces.truth, again.truth)
    assert not np.array_equal(faces.pixels[0], draw(1, HELD_OUT + 1).pixels[0])


@given(start=st.integers(0, 60), count=st.integers(0, 13))
@settings(max_examples=12, deadline=None)
def test_any_stretch_of_a_seed_is_the_same_faces(faces, start, count):
    part = draw(count, HELD_OUT, start=start)
    for name in ("pixels", "emotions", "truth", "controls"):
        assert np.array_equal(getattr(part, name), getattr(faces, name)[start : start + count]), name


def test_shapes_and_types(faces):
    assert (faces.pixels.shape, faces.pixels.dtype) == ((500, 48, 48), np.uint8)
    assert (faces.emotions.shape, faces.emotions.dtype) == ((500,), np.int64)
    assert (faces.truth.shape, faces.truth.dtype) == ((500, 25), np.bool_)
    assert (faces.controls.shape, faces.controls.dtype) == ((500, len(CONTROLS)), np.float32)
    assert len(draw(0, 3)) == 0


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="must be 0 or more"):
        draw(-1, 0)


def test_no_class_is_rare_and_every_concept_is_seen(faces):
    shares = np.bincount(faces.emotions, minlength=len(CLASSES)) / len(faces)
    assert shares.min() >= 0.05
    truth = dict(zip(CONCEPTS, faces.truth.mean(axis=0), strict=True))
    assert all(0.03 <= share <= 0.45 for share in truth.values()), truth


def test_the_emotions_overlap(faces):
    smiles = faces.truth[:, CONCEPTS.index("Smile")]
    happy = faces.emotions == CLASSES.index("happy")
    assert 0.6 < smiles[happy].mean() < 0.98
    assert 0.01 < smiles[~happy].mean() < 0.25


def test_the_truth_follows_the_controls():
    assert shown() == {"Relaxed Brows", "Relaxed Eyes", "Relaxed Mouth and Jaw", "Relaxed Facial Muscles"}
    assert "Smile" in shown(au12_lip_corner_puller=0.8)
    assert "Closed Eyes" in shown(au43_eyes_closed=1)
    assert {"Wide Open Eyes", "Elevated Upper Eyelids"} <= shown(au5_upper_lid_raiser=1)
    assert {"Furrowed Brows", "Lowered Brows"} <= shown(au4_brow_lowerer=0.9)
    assert "Raised Brows" in shown(au1_inner_brow_raiser=0.8, au2_outer_brow_raiser=0.8)
    assert "Drooping Brows" in shown(au1_inner_brow_raiser=0.8)
    assert "Slightly Open Mouth" in shown(au25_lips_part=0.7)
    assert {"Wide Open Mouth"} <= shown(au25_lips_part=1, au26_jaw_drop=1)
    assert "Tearful Eyes" in shown(tears=1)


@pytest.mark.parametrize("unit", [unit for unit in ACTION_UNITS if unit != "au26_jaw_drop"])
def test_every_action_unit_can_be_seen(unit):
    # Lips have to part before a lowered lower lip shows its teeth.
    rest = {"au25_lips_part": 0.6} if unit == "au16_lower_lip_depressor" else {}
    moved = np.abs(face(**{**rest, unit: 1.0}) - face(**rest))
    assert moved.max() > 0.08
    assert moved[:3].max() < 0.03 or unit == "chin_lift", "the forehead's hair does not move"


def test_opening_the_mouth_darkens_the_mouth_and_nothing_above_the_nose():
    shut, open_ = face(), face(au25_lips_part=1, au26_jaw_drop=1)
    mouth = (slice(36, 42), slice(21, 27))
    assert open_[mouth].mean() < shut[mouth].mean() - 0.15
    assert np.abs(open_[:24] - shut[:24]).max() < 0.05


def test_raised_brows_rise():
    def darkest_row(picture: np.ndarray) -> int:
        return int(picture[9:17, 14:18].mean(axis=1).argmin())

    low = face(hairline=-1)  # bald, so that the brows are the darkest there
    high = face(hairline=-1, au1_inner_brow_raiser=1, au2_outer_brow_raiser=1)
    assert darkest_row(high) < darkest_row(low)


def test_shut_eyes_hide_the_whites():
    eyes = (slice(19, 23), slice(12, 37))
    assert face()[eyes].max() > face(au43_eyes_closed=1)[eyes].max() + 0.03


def test_captions_name_only_what_a_face_shows(faces):
    said = captions(faces.truth, faces.emotions, np.random.default_rng(0))
    for caption, truth, emotion in zip(said, faces.truth, faces.emotions, strict=True):
        absent = [concept.lower() for concept, here in zip(CONCEPTS, truth, strict=True) if not here]
        named = caption.split(" with ", 1)[1].replace(" and ", ", ").split(", ") if " with " in caption else []
        parts = {part for concept in absent for part in [concept] if " and " not in concept}
        assert not parts & set(named), (caption, absent)
        others = set(CLASSES) - {CLASSES[emotion]}
        assert not others & set(caption.split(" with ")[0].split()), caption


def test_auc_counts_pairs():
    scores = np.array([[0.1, 1.0], [0.4, 1.0], [0.35, 1.0], [0.8, 1.0]])
    truth = np.array([[0, 1], [0, 0], [1, 1], [1, 0]], bool)
    assert auc(scores, truth).tolist() == [0.75, 0.5]
    assert math.isnan(auc(scores[:, :1], np.ones((4, 1), bool))[0])


def test_the_shipped_files_are_small():
    assert CLIP_WEIGHTS.stat().st_size == FIGURES["clip"]["bytes"] <= 8_000_000
    assert (DEMO / "vggnet.safetensors").stat().st_size == FIGURES["vggnet"]["bytes"] <= 4_000_000
    assert (DEMO / "contact_sheet.png").stat().st_size < 400_000


def test_open_clip_really_loads_the_shipped_weights():
    model, _, _ = open_clip.create_model_and_transforms(make_weights.CLIP_NAME, pretrained=str(CLIP_WEIGHTS))
    stored, loaded = load_file(CLIP_WEIGHTS), model.state_dict()
    assert stored.keys() == loaded.keys()
    for name, value in loaded.items():
        assert torch.equal(value, stored[name].to(value.dtype)), name
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert 1 <= float(model.logit_scale.detach().exp()) <= 100


def test_training_sees_the_pixels_that_open_clips_preprocessing_makes(faces):
    _, _, preprocess = open_clip.create_model_and_transforms(make_weights.CLIP_NAME, pretrained=str(CLIP_WEIGHTS))
    theirs = torch.stack([preprocess(Image.fromarray(picture)) for picture in faces.pixels[:8]])
    ours = train_clip.normalise(train_clip.enlarge(torch.from_numpy(faces.pixels[:8]), theirs.shape[-1]))
    assert float((theirs - ours).abs().max()) < 0.05  # one or two grey levels of 256


def test_the_clip_knows_the_concepts_on_new_faces(faces):
    measured = make_weights.measure_clip(faces, CLIP_WEIGHTS)
    assert FIGURES["clip"]["concept_auc_mean"] >= 0.90
    assert measured["templates"] == FIGURES["clip"]["templates"] == list(TEMPLATES)
    assert measured["concept_auc_mean"] == pytest.approx(FIGURES["clip"]["concept_auc_mean"], abs=0.03)


def test_the_emotion_network_is_imperfect_on_new_faces(faces):
    measured = make_weights.measure_vggnet(faces, DEMO / "vggnet.safetensors")
    assert 0.60 <= FIGURES["vggnet"]["accuracy"] <= 0.90
    assert measured["accuracy"] == pytest.approx(FIGURES["vggnet"]["accuracy"], abs=0.07)


def test_a_contact_sheet_has_a_row_an_emotion(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 7 * 100 + 4

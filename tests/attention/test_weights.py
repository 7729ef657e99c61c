"Weights and adapters that change, and profiles that are found by them."

import pytest
import torch
from carve_nb.attention.vlm import VLM
from carve_nb.data.scenes import make_scene
from carve_nb.method.lookup import Lookup
from carve_nb.method.profiles import find_profile, profile_path
from carve_nb.method.wrappers import record_of
from carve_nb.studies.profile import keep_profile, make_profile

SCENE = make_scene(145)
QUESTION = SCENE.question('digit').question


@pytest.fixture
def vlm():
    return VLM.from_pretrained('carve-tiny')


def first(vlm):
    return next(
        p for name, p in vlm.model.named_parameters() if 'language_model' in name and 'k_proj.weight' in name
    )


def test_another_type(tmp_path, monkeypatch):
    "Loaded in bfloat16, the model of this package finds its profile; so does a profile of one's own"
    half = VLM.from_pretrained('carve-small', dtype='bfloat16')
    r = Lookup()(half, SCENE.image, QUESTION)
    assert r.read == ['heart'] and not r.notes
    assert Lookup().choose(VLM.from_pretrained('carve-small')) == (Lookup(query='noun', subtract='none'), [])
    from dataclasses import replace

    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path))
    torch.manual_seed(0)
    with torch.no_grad():
        half.model.lm_head.weight.normal_()
    half.forget()
    assert find_profile(half) is None  # other weights, not another type
    shipped = find_profile(full := VLM.from_pretrained('carve-small'))
    half = VLM.from_pretrained('carve-small', dtype='bfloat16')
    fingerprint = half.fingerprint
    mine = replace(shipped, weights=fingerprint.weights, probe=fingerprint.probe, dtype='bfloat16', n=41)
    (tmp_path / '0.json').write_text('broken')
    mine.save(profile_path(half))
    assert find_profile(half) == mine and find_profile(full) == shipped  # its own weights come first


UNKNOWN = 'no query token of this model is known'


def is_known(model, processor):
    return not any(
        UNKNOWN in note
        for note in Lookup(max_new_tokens=1)(VLM(model, processor), SCENE.image, QUESTION).notes
    )


def test_a_matrix_that_changes_by_two_percent():
    "It is another model, in the type of its profile; in others rounding hides so small a change"
    vlm = VLM.from_pretrained()
    assert is_known(vlm.model, vlm.processor)
    with torch.no_grad():
        first(vlm).mul_(1.02)
    assert not is_known(vlm.model, vlm.processor)


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_weights_that_cannot_be_read(vlm, tmp_path, monkeypatch):
    """An offloaded model finds its profile by the probe; a packed one is recorded too, and gets a profile of
    its own"""
    import accelerate

    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path))
    shipped = find_profile(vlm)
    accelerate.cpu_offload(vlm.model, execution_device=torch.device('cpu'))
    packed = VLM(
        torch.ao.quantization.quantize_dynamic(VLM.from_pretrained('carve-tiny').model, {torch.nn.Linear}),
        vlm.processor,
    )
    for model in vlm, packed:
        model.forget()
        assert model.fingerprint.weights is record_of(model)['weights'] is None
        assert model.capture(SCENE.image, QUESTION).saliency().values.any()
    assert find_profile(vlm) == shipped and find_profile(packed) is None
    keep_profile(profile := make_profile(packed, 2), packed)
    assert find_profile(packed) == profile and find_profile(vlm) == shipped

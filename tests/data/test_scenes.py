"Records name scenes by their seeds, so a seed must give the same scene for good: in the styles of a recipe too, pixels and objects."
import hashlib
import pytest
from carve_nb.data.scenes import make_scene
from recipes.generalization import STYLES, generalization_samples, styled_scene

DIGESTS = dict(
    own='e7c562c0c35a6fe9', fonts='2be6543774c56b7f', outlines='267c89ca0e6a17ae', turned='4346eca22a98cf9d',
    photographs='b3ffe2f12015a414', border='00b6dec29a6e8197',
    large='c18decb3fa0716d3')


@pytest.mark.parametrize('style', STYLES)
def test_styles_bit_for_bit(style):
    scene = styled_scene(22, style)
    assert hashlib.sha256(scene.image.tobytes() + str(scene.objects).encode()).hexdigest()[:16] == DIGESTS[style]


def test_styles_keep_what_is_asked():
    "The same objects, digits and questions, painted in another way"
    asked = lambda scene: [(q.question, q.answer) for k in ('digit', 'color', 'shape', 'exist')
        if (q := scene.question(k))]
    for seed in range(3):
        for style in STYLES: assert asked(styled_scene(seed, style)) == asked(make_scene(seed))
    assert {k: styled_scene(1, k).image.size[0] for k in STYLES} == {k: dict(border=576, large=896).get(k, 448)
        for k in STYLES}
    large, own = styled_scene(4, 'large').objects[0].box, make_scene(4).objects[0].box
    assert (large[:2], large[2] - large[0]) == ((2*own[0], 2*own[1]), own[2] - own[0])
    assert [r.id for r in generalization_samples(4)] == ['heldout-0-digit', 'heldout-0-fonts-digit',
        'heldout-0-outlines-digit', 'heldout-0-turned-digit']
    assert styled_scene(4, 'own').image.tobytes() == make_scene(4).image.tobytes()

"""Conformance of the stock processors with torchvision, beside the same images prepared by PIL: spans, pixels, rows;
videos beside the stock processor of each family that reads them.

`make test-torchvision` runs it with the torchvision that matches torch; without one it is skipped, and says so."""
import copy
import numpy as np
import pytest
import torch
import transformers
from tiny import QUESTION, TALL, WIDE, check_stock_ids
from transformers import AutoImageProcessor
from transformers.video_utils import VideoMetadata
from carve_nb.attention.vlm import VLM
from carve_nb.models.families import FAMILIES
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.models.video import Video
from recipes.tiny_models import HERE, NEED_TORCHVISION

pytest.importorskip('torchvision', reason='torchvision is an extra')
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
# Two libraries resize the same 8 bits and round differently: 6e-4 on average at most, of values in standard deviations.
# The tiny models have random weights and steep rows: the largest difference seen was 2.7e-2, and the bound of rows was
# set after seeing it, for this prompt (6.0e-2 was seen with nothing behind the question). It guards against a change; it
# does not show that the two agree.
PIXELS, QUERIES = .002, .05


@pytest.fixture(params=[n for n in HERE if n not in NEED_TORCHVISION])   # the others: see the Makefile
def pair(request, load, folders):
    "The model with the stock processor, and the same model with images prepared by PIL"
    vlm = load(request.param)
    twin = copy.copy(vlm)
    twin.processor = copy.copy(vlm.processor)
    twin.processor.image_processor = AutoImageProcessor.from_pretrained(folders(request.param), backend='pil')
    return vlm, twin


@pytest.mark.parametrize('image', [WIDE, TALL], ids=['wide', 'tall'])
def test_spans_pixels_rows(pair, image, record_property):
    vlm, twin = pair
    assert 'torchvision' in str(type(vlm.processor.image_processor).__mro__).lower(), type(vlm.processor.image_processor)
    a, b = (v.prompt(image, QUESTION) for v in pair)
    assert [(s.view, s.grid, s.tokens.tolist()) for s in a.spans] == [(s.view, s.grid, s.tokens.tolist())
        for s in b.spans]
    x, y = (p.inputs['pixel_values'].float() for p in (a, b))
    assert x.shape == y.shape
    pixels = float((x - y).abs().mean())
    rows = [v.capture(image, QUESTION, steps='last', suffix=SHORT_ANSWER, max_new_tokens=1).attn for v in pair]
    far = float((rows[0] - rows[1]).abs().max())
    print(f'{vlm.family.name}: pixels {pixels:.1e}, rows {far:.1e}')
    assert pixels <= PIXELS and far <= QUERIES, (pixels, far)


def test_stock_ids(pair): check_stock_ids(pair[0], pair[0].processor)


VIDEOS = dict(qwen2_vl=('Qwen2VLProcessor', 'Qwen2VLVideoProcessor', 1),
              qwen2_5_vl=('Qwen2_5_VLProcessor', 'Qwen2VLVideoProcessor', 1),
              qwen3_vl=('Qwen3VLProcessor', 'Qwen3VLVideoProcessor', 6),   # its limit is that of all frames together
              llava_onevision=('LlavaOnevisionProcessor', 'LlavaOnevisionVideoProcessor', 1),
              internvl=('InternVLProcessor', 'InternVLVideoProcessor', 1))


def test_every_family_with_videos(): assert set(VIDEOS) == {name for name, f in FAMILIES.items() if f.moments}


@pytest.mark.parametrize('name', VIDEOS)
def test_video_as_stock(name, folders):
    "The inputs made of still frames are those of the stock processor for videos"
    vlm = VLM.from_pretrained(folders(name))
    kind, videos, shares = VIDEOS[name]
    clip = np.random.default_rng(0).integers(0, 255, (6, 64, 96, 3), dtype=np.uint8)
    still = 'qwen' not in name
    side = 32 if name == 'llava_onevision' else 64
    settings = dict(size=dict(height=side, width=side)) if still else dict(
        patch_size=8, merge_size=2, temporal_patch_size=2, size=dict(shortest_edge=4*256, longest_edge=64*256*shares))
    own = dict(llava_onevision=dict(num_image_tokens=16, vision_feature_select_strategy='full',
        vision_aspect_ratio='anyres_max_4'),
               internvl=dict(image_seq_length=16)).get(name, {})
    ip, tok = vlm.processor.image_processor, vlm.tokenizer
    settings |= dict(image_mean=ip.image_mean, image_std=ip.image_std)
    stock = getattr(transformers, kind)(
        image_processor=ip, tokenizer=tok, chat_template=tok.chat_template,
        video_processor=getattr(transformers, videos)(**settings), **own)
    video = Video(clip, [i/2 for i in range(6)])
    moments = vlm.family.moments(vlm.processor, vlm.model.config, video)
    pad = stock.video_token
    frame = '{}' if still else '<|vision_start|>{}<|vision_end|>'
    about = VideoMetadata(total_num_frames=6, fps=2., frames_indices=list(range(6)), duration=3.)
    theirs = stock(text=f'user {frame.format(pad)} what?', videos=[clip], return_tensors='pt',
                   videos_kwargs=dict(do_sample_frames=False, video_metadata=[about]))
    assert tok(f'user {frame.format(moments.words)} what?')['input_ids'] == theirs['input_ids'][0].tolist()
    for k, v in moments.inputs.items():
        assert torch.as_tensor(theirs[k]).shape == v.shape, k
        assert (torch.as_tensor(theirs[k]) - v).abs().double().mean() <= PIXELS, k

"A stock FastVLM before whose decoder stands a convolutional network, which has no attention kernel."

import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    CLIPImageProcessorPil,
    EfficientNetConfig,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from carve_nb.attention.vlm import VLM

SIDE, CELL = 96, 32  # of the image, of a token
TOWER = dict(
    image_size=SIDE,
    width_coefficient=1.0,
    depth_coefficient=1.0,
    depth_divisor=8,
    hidden_dim=1280,
    hidden_size=1280,
    patch_size=CELL,
    in_channels=[32] + [8] * 6,
    out_channels=[8] * 7,
    num_block_repeats=[1] * 7,
)


@pytest.fixture(scope='module')
def convolutional(folders, tmp_path_factory):
    "Folder of a small random FastVLM: a stock EfficientNet, and the decoder of the tiny LLaVA"
    torch.manual_seed(0)
    llava = LlavaForConditionalGeneration.from_pretrained(folders('llava'))
    processor, folder = AutoProcessor.from_pretrained(folders('llava')), tmp_path_factory.mktemp('fast_vlm')
    config = FastVlmConfig(
        vision_config=EfficientNetConfig(**TOWER),
        text_config=llava.config.text_config,
        image_seq_length=(SIDE // CELL) ** 2,
        image_token_index=llava.config.image_token_index,
    )
    FastVlmForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size=dict(height=SIDE, width=SIDE), do_center_crop=False)
    LlavaProcessor(
        images,
        processor.tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy='full',
        chat_template=processor.chat_template,
        image_token=processor.image_token,
    ).save_pretrained(folder)
    return folder


def test_tower_without_attention(convolutional):
    "SDPA is asked of the decoder alone; the folder was refused: 'its decoder has no SDPA kernel'"
    vlm = VLM.from_pretrained(convolutional)
    kernels = {
        part: getattr(vlm.model.config, part)._attn_implementation
        for part in ('text_config', 'vision_config')
    }
    assert kernels == dict(text_config='sdpa', vision_config='eager')


def test_map_of_a_convolutional_tower(convolutional):
    "Its tokens are one square, row by row, of the whole image"
    rows = VLM.from_pretrained(convolutional).capture(
        Image.linear_gradient('L').convert('RGB'), 'What animal is this?', max_new_tokens=1
    )
    assert rows.spans[0].grid == (SIDE // CELL, SIDE // CELL)

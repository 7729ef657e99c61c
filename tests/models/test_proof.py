"A proof holds for what it is used on."
import pytest
from tiny import User, refuse

@pytest.mark.parametrize('family', ['qwen2_5_vl', 'gemma3', 'llava'])
def test_drafts_are_refused(load, family):
    "Passes that read several drafted tokens have rows of other places than one a token: refused, and not recorded as such"
    user = User(load(family))
    def run(): user.model.generate(**user.inputs, max_new_tokens=8, do_sample=False, prompt_lookup_num_tokens=4)
    refuse('(?i)draft', lambda: user.record(run))


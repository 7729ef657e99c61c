"""Answers as five families of models write them, with the score that a person gives.

They were written and committed before the rules of issue 76, by the author of the rules, and opened once afterwards: half blind. The
rules were not changed for them. A new rule may reach more; none may reach less, and a wrong letter is worse than a lost one."""
import json
from collections import Counter
from pathlib import Path
from carve_nb.data.records import Record
from carve_nb.data.scoring import score_answer

ANSWERS = [json.loads(line) for line in (Path(__file__).parent/'answers_blind.jsonl').read_text(encoding='utf-8').splitlines()]


def read_option(row: dict) -> str|None:
    "The option that the rule reads; none or several are None"
    read = [c for c in row['choices'] if score_answer(row['answer'], Record('1', None, '?', [c], row['choices'], rule='choice'))]
    return read[0] if len(read) == 1 else None


def judged(row: dict) -> str:
    "'right', 'wrong' (another option or a point too many) or 'lost'"
    if 'choices' in row:
        read = read_option(row)
        return 'right' if read == row['read'] else 'wrong' if read else 'lost'
    score = score_answer(row['answer'], Record('1', None, row['question'], row['answers'], rule=row['rule']))
    return 'right' if abs(score - row['score']) < .01 else 'wrong' if score > row['score'] else 'lost'


def test_answers_that_the_rules_had_not_seen():
    found = {judge: [row for row in ANSWERS if judged(row) == judge] for judge in ('right', 'wrong', 'lost')}
    for judge in 'wrong', 'lost':
        for row in found[judge]: print(judge, row['family'], row['rule'], repr(row['answer']), row.get('choices'), row['answers'])
    print(Counter((row['rule'], judge) for judge, rows in found.items() for row in rows))
    assert len(found['right']) >= 197 and len(found['wrong']) <= 2     # of 208; the rules before: 142 right, 15 wrong

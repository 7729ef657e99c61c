"""Answers as models write them, with what a person reads, committed before the rules were changed.

`answers_blind.jsonl`: five families, by the author of the rules of issue 76, opened once afterwards: half blind.
`answers_six_languages.jsonl`: by an author who knew the plan of issue 93, and had not read the rules. The rules were not changed for either;
nothing may be read wrongly in silence."""

import json
from collections import Counter
from pathlib import Path
from carve_nb.data.records import Record
from carve_nb.data.scoring import grade_answer, score_answer

HERE = Path(__file__).parent


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding='utf-8').splitlines()]


def read_option(row: dict) -> str | None:
    "The option that the rule reads; none or several are None"
    read = [
        c
        for c in row['choices']
        if score_answer(row['answer'], Record('1', None, '?', [c], row['choices'], rule='choice'))
    ]
    return read[0] if len(read) == 1 else None


def record_of(row: dict) -> Record:
    return Record('1', None, row.get('question', '?'), row['answers'], row.get('choices'), rule=row['rule'])


def judged(row: dict) -> str:
    "'right', 'wrong' (another option or a point too many) or 'lost'"
    if 'choices' in row:
        read = read_option(row)
        return 'right' if read == row['read'] else 'wrong' if read else 'lost'
    score = score_answer(row['answer'], record_of(row))
    return 'right' if abs(score - row['score']) < 0.01 else 'wrong' if score > row['score'] else 'lost'


def test_answers_of_five_families():
    rows = rows_of('answers_blind.jsonl')
    by_verdict = {
        judge: [row for row in rows if judged(row) == judge] for judge in ('right', 'wrong', 'lost')
    }
    for judge in 'wrong', 'lost':
        for row in by_verdict[judge]:
            print(judge, row['family'], row['rule'], repr(row['answer']), row.get('choices'), row['answers'])
    counted = [row for row in by_verdict['lost'] if grade_answer(row['answer'], record_of(row)).unread]
    # of 208; of the 60 that the few rules lose three are not counted as unread or near
    assert len(by_verdict['right']) >= 148
    assert not by_verdict['wrong']
    assert len(by_verdict['lost']) - len(counted) <= 3


def judged_as_told(row: dict) -> str:
    "'right', 'wrong', 'counted' as unread or 'lost' without a word"
    rule = dict(choice='choice', yesno='yes/no', exact='exact')[row['kind']]

    def record(truth: str) -> Record:
        return Record('1', None, row['question'], [truth], row['choices'], rule=rule)

    possible = row['choices'] or dict(yesno=['yes', 'no']).get(row['kind'], [*row['answers'], row['read']])
    read = [
        truth for truth in dict.fromkeys(possible) if truth and score_answer(row['answer'], record(truth))
    ]
    if read:
        return 'right' if read == [row['read']] else 'wrong'
    if row['read'] is None:
        return 'right'
    return 'counted' if grade_answer(row['answer'], record(row['read'])).unread else 'lost'


def test_answers_in_six_languages():
    rows = rows_of('answers_six_languages.jsonl')
    verdicts = Counter((row['kind'], judged_as_told(row)) for row in rows)
    for row in rows:
        if judged_as_told(row) != 'right':
            print(
                judged_as_told(row),
                row['language'],
                row['kind'],
                row['cls'],
                repr(row['answer']),
                row['read'],
            )
    print(verdicts)
    judges = Counter(judge for (_, judge), n in verdicts.items() for _ in range(n))
    # of 120; the six that are lost are number words and digits of other languages
    assert judges['wrong'] == 0
    assert judges['right'] >= 66
    assert judges['lost'] <= 6

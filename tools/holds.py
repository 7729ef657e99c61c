"""Does behavior hold? `python tools/holds.py record` writes tests/holds.json; `check` compares, and ends with 1 where it differs.

It holds a refactoring: every method on both models, the pixels of scenes, the table of a small run. Where a change is
meant, `record` again in the commit that means it. Methods that are gone or new are told and are no failure. Maps are
compared by a digest of three significant digits; equal sum and peak beside another digest speak for mere rounding.
Another processor or another torch may round differently: record before and check after on the same machine."""
import hashlib, json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT/'tests'/'holds.json'
SEEDS = {'carve-tiny': (0, 1, 2), 'carve-small': (0,)}  # model -> held-out scenes; the second is slow
KINDS = 'digit', 'exist'
RUN = 'eval scenes --n 6 --methods none,carve,lookup --quiet --out run'


def sha(data): return hashlib.sha256(data).hexdigest()[:16]


def map_facts(saliency):
    "A digest of the rounded map, and what tells rounding from a change"
    if saliency is None: return None
    values = saliency.values
    return dict(sha=sha(' '.join(f'{v:.3g}' for v in values.ravel()).encode()), shape=list(values.shape), sum=float(f'{values.sum():.6g}'), peak=int(values.argmax()))


def facts(method, vlm, image, query):
    "What a method says, shows and costs; or why it does not"
    from carve_nb import CarveError, make_method
    try: r = make_method(method)(vlm, image, query.question, box=query.box)
    except CarveError as e: return dict(refused=str(e))
    except Exception as e: return dict(crashed=f'{type(e).__name__}: {e}')
    plain = None if r.plain_answer is None else str(r.plain_answer)
    crop = r.crop and [float(v) for v in r.crop.box]
    return dict(answer=str(r.answer), plain=plain, crop=crop, calls=r.calls, notes=list(r.notes), map=map_facts(r.saliency))


def table(folder):
    "The table of a run through the shell; it has no seconds"
    subprocess.run([sys.executable, '-m', 'carve_nb', *RUN.split()], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return [line for line in Path(folder, 'run', 'table.md').read_text(encoding='utf-8').splitlines() if line.startswith('|')]


def measure():
    "Everything that is held: 'what model kind seed' -> facts"
    from carve_nb import VLM, make_scene, methods
    pixels = lambda split: [sha(make_scene(seed, split).image.tobytes()) for seed in range(20)]
    out = {f'scenes {split}': pixels(split) for split in ('train', 'calibration', 'heldout')}
    for model, seeds in SEEDS.items():
        vlm = VLM.from_pretrained(model)
        for scene in map(make_scene, seeds):
            for kind in KINDS:
                query = scene.question(kind)
                for name, entry in methods().items():
                    if not query or entry.asks == 'model' or entry.asks == 'box' and not query.box: continue
                    out[f'{name} {model} {kind} {scene.seed}'] = facts(name, vlm, scene.image, query)
    with tempfile.TemporaryDirectory() as folder: out['table'] = table(folder)
    return out


def compare(old, new):
    "Lines on methods that are gone or new, and lines on what differs"
    from carve_nb import methods
    before, after = ({key.split()[0] for key in held} for held in (old, new))
    gone, added = before - after - {*methods()}, after - before
    wrong = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if a == b or key.split()[0] in gone | added: continue
        if isinstance(a, dict) and isinstance(b, dict): wrong += [f'{key}: {k}: {a.get(k)} -> {b.get(k)}' for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
        else: wrong.append(f'{key}: {a} -> {b}')
    return [*(f'gone: {n}' for n in sorted(gone)), *(f'new: {n}' for n in sorted(added))], wrong


def main(command):
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as profiles:  # empty: no profile of this machine decides
        os.environ |= dict(PYTHONPATH=str(ROOT), CARVE_PROFILES=profiles, OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1')
        new = measure()
    if command == 'record':
        FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + '\n', encoding='utf-8')
        return 0
    told, wrong = compare(json.loads(FILE.read_text(encoding='utf-8')), new)
    print(*told, *wrong, f'{len(new)} held, {len(wrong)} differences', sep='\n')
    return int(bool(wrong))


if __name__ == '__main__':
    if sys.argv[1:] not in (['record'], ['check']): sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))

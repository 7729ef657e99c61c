"""Measure what a second worker is worth: runs with one and with two workers in turns, on scenes, one thread each.

    python tools/measure_scale.py --out nbs/results/scale.json

The reference VLM; the answers of all runs must be the same. nbs/23a_scale.ipynb shows the numbers. The load of the
machine before each run is kept beside them.
"""
import argparse, json, os, tempfile, time
from pathlib import Path
import torch
from carve_nb.data.run_store import read_run
from carve_nb.evaluation.runner import run_eval
from carve_nb.evaluation.distributed import RayEngine


class Clock(RayEngine):
    "Keeps when each sample came, and from which process"
    def serve(self, *args):
        for number, pid, pieces, why in super().serve(*args):
            self.came.append((time.perf_counter(), pid, len(pieces or ())))
            yield number, pid, pieces, why


def measured(engine, start):
    "Samples and seconds from the moment at which all workers had come up"
    first = max(min(t for t, p, _ in engine.came if p == pid) for pid in engine.pids)
    return dict(begun=round(first - start, 3), end=round(engine.came[-1][0] - start, 3), samples=sum(n for t, _, n in engine.came if t > first))


def once(workers, folder, a):
    "One run; what it took, and its lines without times"
    load, start = os.getloadavg()[0], time.perf_counter()
    engine = Clock(workers)
    engine.came = []
    run_eval('scenes', methods=a.methods, n=a.n, out=folder, progress=False, engine=engine)
    found = dict(workers=workers, processes=len(engine.pids), all=a.n, seconds=round(time.perf_counter() - start, 3), **measured(engine, start), load=round(load, 2))
    print(found)
    return found, [{k: v for k, v in l.items() if k != 'seconds'} for l in read_run(folder)[1]]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=120, help='samples of a run')
    p.add_argument('--methods', default='none,carve')
    p.add_argument('--workers', type=int, default=2, help='against one')
    p.add_argument('--turns', type=int, default=3, help='runs with one worker, and as many with several')
    p.add_argument('--out', type=Path, required=True)
    a = p.parse_args()
    os.environ['HF_HUB_OFFLINE'] = '1'
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        made = [once(w, Path(place)/f'{i}-{w}', a) for i in range(a.turns) for w in (1, a.workers)]
    assert all(lines == made[0][1] for _, lines in made), 'the answers differ'
    found = dict(model='carve-tiny', methods=a.methods, n=a.n, cores=os.cpu_count(), runs=[r for r, _ in made])
    a.out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__': main()

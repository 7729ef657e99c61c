"""Draw some of the mutants of a session of cosmic-ray by a seed, and skip the others; `make mutants SEED=20261124 N=40`.

Usage: python tools/mutants.py SESSION SEED N"""

import random
import sys
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

if __name__ == '__main__':
    session, seed, n = sys.argv[1:]
    with use_db(session) as db:
        mutants = [*db.pending_work_items]
        drawn = {item.job_id for item in random.Random(int(seed)).sample(mutants, int(n))}
        for item in mutants:
            if item.job_id not in drawn:
                db.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))

"""Draw some of the mutants of a session of cosmic-ray by a seed, and skip the others; after `cosmic-ray exec` name
those that no test noticed. `make mutants SEED=20261124 N=40` does both.

Usage: python tools/mutants.py SESSION SEED N
       python tools/mutants.py SESSION"""

import random
import sys
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult


def draw_mutants(db: WorkDB, seed: int, n: int):
    "Mark all mutants but n as skipped"
    mutants = [*db.pending_work_items]
    drawn = {item.job_id for item in random.Random(seed).sample(mutants, n)}
    for item in mutants:
        if item.job_id not in drawn:
            db.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def name_survivors(db: WorkDB):
    "Print the change of each mutant that lives, and how many were made"
    results = [result for _, result in db.completed_work_items]
    made = [result for result in results if result.worker_outcome != WorkerOutcome.SKIPPED]
    living = [result for result in made if result.test_outcome == TestOutcome.SURVIVED]
    for result in living:
        print(result.diff)
    print(f'{len(living)} of {len(made)} mutants live')


if __name__ == '__main__':
    session, *numbers = sys.argv[1:]
    with use_db(session) as db:
        if numbers:
            draw_mutants(db, *map(int, numbers))
        else:
            name_survivors(db)

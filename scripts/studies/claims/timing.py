"""How long one run of a table takes, for the page's list of what is to run: a cell in the middle of the table, once.

The seed is none that is reported, and nothing of the run is kept but its seconds.
"""

import resource
import tempfile
import time

from scripts.studies.claims.studies import SCALE, Study
from scripts.table.expected import expected_rows

SEED = 100


def timed(study: Study) -> tuple[str, float]:
    """The row that was run, and its CPU seconds on one thread, from the data to the test (floors are not part of it:
    a sweep makes them once)."""
    from train import train  # imports Lightning, whose seconds a sweep pays once as well

    rows = [one for one in expected_rows(study.sweep, [f"scale={SCALE}", *study.words]) if one.steps is None]
    one = rows[len(rows) // 2]
    with tempfile.TemporaryDirectory(prefix="lcaam-") as place, one.at(SEED) as cfg:
        cfg.paths.log_dir, cfg.paths.run_dir = place, f"{place}/run"
        cfg.floors.enabled, cfg.threads = False, 1
        before = cpu()
        train(cfg)
        return one.label, cpu() - before


def cpu() -> float:
    """Seconds that this process took, and the programs that it started and that ended (Java)."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])

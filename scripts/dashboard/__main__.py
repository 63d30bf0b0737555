"""A sweep's workspace and report of W&B, built from what its runs recorded.

    python -m scripts.dashboard table1a --dry-run                          prints both as JSON; needs no network
    python -m scripts.dashboard logs/multirun/<time> --dry-run --out dashboard.json
    python -m scripts.dashboard table1a --scale mini --push --entity my-team

The workspace has, for each task of the sweep, sections with the test's metrics beside floors, ceiling and the paper's
figures, curves of validation and training with a band over the seeds of a setting, masks, costs, and a table of what
differs between runs. It shows the runs of this sweep alone, by their groups. --dry-run also compares every key of it
with what an offline run of each setting has logged, and ends with 1 if one is missing. --push saves both at W&B, which
needs `wandb login` first; it was tried against a stand-in for the server only (docs/wandb.md).
"""

import sys

from scripts.dashboard.command import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))

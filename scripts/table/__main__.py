"""The table of a sweep: what it asks, its scores over seeds, what differs and how sure that is, and what is missing.

python -m scripts.table table1a                                the real data set; the runs that are there
python -m scripts.table table1a --scale mini --run             runs what is missing before
python -m scripts.table figure_s4 --scale mini --html --latex  also as a page and for a paper
python -m scripts.table table1a --scale mini --run -- seed=0,1 hydra.launcher.n_jobs=2

NAME is a file of configs/sweep/ with a `table:` in it. The cells are those of the sweep; their runs are found by the
identity of their settings under paths.log_dir, and in the csv files of sweep.known. With --run, `train.py sweep=NAME`
runs or goes on with what has no result, so the same command goes on after it was stopped. table.md and table.csv (a row
per cell) are written to --out. What follows -- goes to train.py as it is. docs/tables.md explains every column.
Exit status: 0; 1 if cells are missing after --run; 2 for a command line that makes no sense.
"""

import sys

from scripts.table.command import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))

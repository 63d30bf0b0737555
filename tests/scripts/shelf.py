"""A folder of runs of table1a as runs leave them, for the tests of tables."""

import json

from configs.identity import identity
from scripts.table.making import tables_of
from tasks.common.known_runs import place
from tests.scripts.test_report import run

SEEDS = (0, 1, 2, 3)


class Shelf:
    """`shelf.leave(row, seed, exact)`, `shelf.table()`. rows: those of table1a at scale smoke."""

    given = ("scale=smoke", "seed=0,1,2,3")

    def __init__(self, folder, rows):
        self.folder, self.rows = folder, rows
        for row in rows:
            row.cfg.paths.log_dir, row.cfg.sweep.known = f"{folder}/logs", []

    def leave(self, row, seed, exact=50.0, name="1", **changes):
        with self.rows[row].at(seed) as cfg:
            folder, mine = place(cfg) / name, identity(cfg)
        folder.mkdir(parents=True)
        metrics = {"exact": exact, "cider": 10 * exact, "rouge_l": 1.0, "test_loss": 2.0}
        record = run(cfg.name, seed=seed, identity=mine, started=name, metrics=metrics, scale="smoke")
        record |= {"floors": {"constant": {"exact": 5.0}}, "git": {"commit": "a" * 40, "dirty": False}}
        (folder / "results.json").write_text(json.dumps(record | changes), encoding="utf-8")
        return folder

    def leave_all(self, baseline, masked):
        for row, values in enumerate((baseline, masked)):
            for seed, exact in zip(SEEDS, values, strict=True):
                self.leave(row, seed, exact)

    def table(self):
        (found,) = tables_of("table1a", self.rows, self.given, "python -m scripts.table table1a")
        return found

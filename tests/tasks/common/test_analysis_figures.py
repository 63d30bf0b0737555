"""What a run says about the masks that it draws."""

import logging
from types import SimpleNamespace

from tasks.common import analysis_figures
from tasks.common.analysis_figures import AnalysisFigures


def test_remarks_on_masks_are_logged_as_warnings(monkeypatch, caplog, tmp_path):
    found = {"masks": {}, "attention": {}, "tokens": {}, "statistics": {"a": 1.0}, "remarks": ["layer 1: 100 % odd"]}
    monkeypatch.setattr(analysis_figures, "analyse_one_batch", lambda trainer, module: found)
    trainer = SimpleNamespace(fast_dev_run=False, strategy=None, loggers=[], global_step=8)
    figures = AnalysisFigures(str(tmp_path / "figures"))
    with caplog.at_level(logging.WARNING):
        figures.draw(trainer, None)
    assert [record.getMessage() for record in caplog.records] == ["layer 1: 100 % odd"]
    assert figures.statistics == {"a": 1.0}
    caplog.clear()
    del found["remarks"]
    figures.draw(trainer, None)
    assert not caplog.records

"""What is measured on recorded attention, the same for every task: masks, weights and numbers by layer.

with record(encoder) as records:
    model(batch)
found = measured({"layer 1": records[0].of_queries(real), ...})
"""

from dataclasses import replace
from typing import Any

from lcaam.analysis import (
    Record,
    context_sensitivity,
    effective_rank,
    heat_map,
    remarks,
    sign_flips,
    sparsity,
    token_deviation,
)


def measured(records: dict[str, Record]) -> dict[str, Any]:
    """`masks`, `attention`, `statistics`, `remarks` and `records` of AnalysisFigures' contract, from one record for
    each layer's name."""
    statistics = {}
    for name, r in records.items():
        statistics[f"{name}/attention_below_0.01"] = sparsity(r.kept_weights())
        if r.mask is not None:
            statistics[f"{name}/context_sensitivity"] = context_sensitivity(r.mask, r.fusion, r.keep)
            statistics[f"{name}/sign_flips"] = sign_flips(r.kept_mask())
            statistics[f"{name}/token_deviation"] = token_deviation(r.mask)
            statistics[f"{name}/effective_rank"] = effective_rank(r.mask)
    return {
        "masks": {name: heat_map(r.mask, keep=r.keep).numpy() for name, r in records.items() if r.mask is not None},
        "attention": {name: r.kept_weights().numpy() for name, r in records.items()},
        "statistics": statistics,
        "remarks": remarks([replace(r, name=name) for name, r in records.items()]),
        "records": records,
    }

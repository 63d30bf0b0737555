"""What every mask costs: parameters by part, FLOPs and MACs, latency and memory, beside the paper's Table 4.

    python scripts/profile.py experiment=madv2_baseline                  with LLaMA-7B; needs no data, weights or GPU
    python scripts/profile.py experiment=qvhighlights_baseline mask.fusion=add mask.depth=8 --json cost.json
    python scripts/profile.py --all --latency --out cost.md              every data set; times on this machine as well
    python scripts/profile.py experiment=madv2_baseline --latency --device cuda
    python scripts/profile.py experiment=madv2_baseline scale=mini       generated data: exactly what a run records

The program is scripts/profiling/; this file only has the standard library's name `profile`. A script of this folder
that imports cProfile (Lightning does) looks here for it first, and gets the standard library's.
"""

import sys
from pathlib import Path

if __name__ == "profile":
    import importlib.util
    import sysconfig

    spec = importlib.util.spec_from_file_location("profile", Path(sysconfig.get_path("stdlib")) / "profile.py")
    sys.modules["profile"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["profile"])
else:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

    from scripts.profiling.command import main

if __name__ == "__main__":
    main(description=__doc__)

"""What every mask costs: parameters by part, FLOPs and MACs, latency and memory, beside the paper's Table 4.

python -m scripts.cost experiment=madv2_baseline                  with LLaMA-7B; needs no data, weights or GPU
python -m scripts.cost experiment=qvhighlights_baseline mask.fusion=add mask.depth=8 --json cost.json
python -m scripts.cost --all --latency --out cost.md              every data set; times on this machine as well
python -m scripts.cost experiment=madv2_baseline --latency --device cuda
python -m scripts.cost experiment=madv2_baseline scale=mini       generated data: exactly what a run records
"""

from scripts.cost.command import main

if __name__ == "__main__":
    main(description=__doc__)

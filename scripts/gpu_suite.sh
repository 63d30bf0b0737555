#!/usr/bin/env bash
# What can only be tried on a GPU, in one call of at most ten minutes:
#
#     scripts/gpu_suite.sh [FOLDER]        default: docs/results/gpu; PYTHON=... chooses another interpreter
#
# 1. the fused kernels, compiled, against the equation in float32, float16 and bfloat16, and in torch.compile
# 2. the attention benchmark; its seconds go to lcaam/gpu_costs.json, which `auto` reads; gradients by atomics beside it
# 3. one mini run of each task with masks, in bf16-mixed
# 4. latency and memory of the paper's models (scripts.cost)
#
# Each part has a limit and a log of its own; a part that fails does not stop the others. FOLDER/suite.txt says how each
# ended, and the exit status is that of the worst.
set -u
cd "$(dirname "$0")/.." || exit 1
out=${1:-docs/results/gpu}
python=${PYTHON:-python}
export TRITON_INTERPRET=0 WANDB_MODE=offline
mkdir -p "$out"
worst=0

part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$2 status
    shift 2
    echo "== $name: $*"
    timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    tail -n 3 "$out/$name.log"
    echo "$name: exit status $status, $*" >>"$out/suite.txt"
    [ "$status" -gt "$worst" ] && worst=$status
}

"$python" - >"$out/suite.txt" <<'PYTHON' || exit 1
import sys, torch, triton
if not torch.cuda.is_available():
    sys.exit("torch finds no CUDA device")
name, capability = torch.cuda.get_device_name(), "sm_%d%d" % torch.cuda.get_device_capability()
print(f"{name} ({capability}), torch {torch.__version__}, triton {triton.__version__}, Python {sys.version.split()[0]}")
PYTHON
cat "$out/suite.txt"

# a thousand kernels are compiled, in several processes if pytest-xdist is there; each test takes the first tile untimed
several=$("$python" -c "import xdist, os; print('-n', min(12, os.cpu_count()))" 2>/dev/null || true)
part kernels 150 env LCAAM_AUTOTUNE=0 "$python" -m pytest $several -q -p no:cacheprovider tests/lcaam/test_triton.py \
    tests/lcaam/test_triton_operation.py -m "slow or not slow" -k "not any_sizes"
part attention 180 "$python" -m scripts.benchmark attention --device cuda --minutes 2.6 --costs --fusions mul add \
    --out "$out/benchmark_attention.json"
part atomics 40 env LCAAM_ATOMICS=1 "$python" -m scripts.benchmark attention --device cuda --minutes 0.5 --fusions mul \
    --lengths 834 8192 --batches 8 --rivals triton --out "$out/benchmark_attention_atomics.json"
for experiment in madv2 qvhighlights imagenet1k msrvtt; do
    part "$experiment" 40 "$python" train.py "experiment=${experiment}_multi_lcaam" scale=mini trainer=gpu logger=csv \
        floors.enabled=false trainer.max_steps=50 trainer.val_check_interval=50 "paths.log_dir=$out/runs"
done
part cost 60 "$python" -m scripts.cost experiment=imagenet1k_baseline --latency --device cuda --json "$out/cost.json"
exit "$worst"

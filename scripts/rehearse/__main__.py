"""Rehearses a run at the paper's scale, without its data and without a GPU: a minute before a week.

python -m scripts.rehearse experiment=madv2_multi_lcaam
python -m scripts.rehearse experiment=msrvtt_lcaam trainer=ddp --devices 8 --tflops 989 --memory 80
python -m scripts.rehearse --out docs/results/rehearsal.md          every experiment

Takes train.py's own key=value arguments. It checks the configuration; writes a few samples of noise in the data set's
real formats and reads a batch of them through the real data module; builds the model at full size on the meta device
and follows one training step there (FLOPs, and the most bytes alive at once); works out hours, checkpoints and disk;
and runs the first 3 steps, a validation, a checkpoint and the test with a small model on the fake files. Weights and
tokenizers of a model hub are not needed: shapes take their place, and the small model starts from nothing.

Memory is parameters + gradients + AdamW's two moments + the largest sum of tensors that were alive in the step. It
leaves out the allocator's reserve, CUDA's context (about 0.5 GiB) and DDP's buckets. Activations are counted in
float32 whatever trainer.precision is. Hours are FLOPs / (TFLOPS x utilisation), training alone. Exit status: 0 if all
is well, 1 if something is wrong.
"""

import sys

from scripts.rehearse.command import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))

"""Decoding with a Memory: step by step the outputs are those of the whole sequence, at a cost that grows by the row."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcaam import Encoder, EncoderLayer, LayerMasks, Memory, MultiheadAttention
from tests.lcaam.names import FUSIONS, SCOPES

ROWS = 7
STEPS = {"one by one": [1] * ROWS, "several": [3, 1, 2, 1]}
FORBIDDEN_WITH_KEYS = "it goes without keys="


def stack(scope="shared", length="fixed", fusion="mul", layers=2, num_keys=ROWS, **options):
    torch.manual_seed(0)
    sizes = dict(dim=8, num_keys=num_keys, init="kaiming")
    masks = LayerMasks(scope, layers, length=length, fusion=fusion, **sizes) if scope != "none" else None
    return Encoder(8, layers, heads=2, masks=masks, **options).double().eval()


def decoded(encoder, x, steps, memory=None):
    """The outputs of all rows, computed in steps of that many rows."""
    memory, outputs = memory or Memory(), []
    for part in x.split(steps, 1):
        outputs.append(encoder(part, causal=True, memory=memory))
        memory.keep()
    return torch.cat(outputs, 1)


def tokens(rows=ROWS, batch=2):
    return torch.randn(batch, rows, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("length", ["fixed", "content"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scope", SCOPES)
@torch.no_grad()
def test_steps_are_rows_of_the_whole_sequence(scope, fusion, length, steps):
    encoder, x = stack(scope, length, fusion), tokens()
    whole = encoder(x, causal=True)
    torch.testing.assert_close(decoded(encoder, x, STEPS[steps]), whole, rtol=0, atol=1e-10)
    plain = stack("none")
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("masks.")})
    assert (plain(x, causal=True) - whole).abs().max() > 1e-3, "the mask does something"


@pytest.mark.parametrize("options", [{"norm": "post"}, {"extra_feedforward": [6]}, {"backend": "chunked"}], ids=str)
@torch.no_grad()
def test_steps_of_other_stacks(options):
    encoder, x = stack("per_layer", "content", **options), tokens()
    torch.testing.assert_close(decoded(encoder, x, [2, 1, 1, 3]), encoder(x, causal=True), rtol=0, atol=1e-10)


@torch.no_grad()
def test_steps_without_masks_and_with_padding():
    encoder, x = stack("none"), tokens()
    keep = torch.ones(2, ROWS, dtype=torch.bool)
    keep[1, :3] = False  # padding in front
    memory, outputs = Memory(), []
    for start, stop in [(0, 4), (4, 5), (5, ROWS)]:
        outputs.append(encoder(x[:, start:stop], keep=keep[:, :stop], causal=True, memory=memory))
        memory.keep()
    torch.testing.assert_close(torch.cat(outputs, 1), encoder(x, keep=keep, causal=True), rtol=0, atol=1e-10)


@pytest.mark.parametrize("module", [MultiheadAttention(8, 2), EncoderLayer(8, 2)], ids=lambda m: type(m).__name__)
@torch.no_grad()
def test_one_attention_alone(module):
    module, x, memory = module.double(), tokens(), Memory()
    parts = []
    for part in x.split([3, 1, 3], 1):
        parts.append(module(part, causal=True, memory=memory))
        memory.keep()
    torch.testing.assert_close(torch.cat(parts, 1), module(x, causal=True), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=FORBIDDEN_WITH_KEYS):
        module(x, keys=x, memory=Memory())


@torch.no_grad()
def test_rows_that_are_not_kept_leave_no_trace():
    encoder, x = stack("per_layer", "content"), tokens()
    memory = Memory()
    encoder(x[:, :3], causal=True, memory=memory)
    memory.keep()
    encoder(torch.randn(2, 3, 8, dtype=torch.float64), causal=True, memory=memory)
    memory.keep(0)
    encoder(torch.cat([x[:, 3:4], x[:, :2]], 1), causal=True, memory=memory)
    memory.keep(1)
    last = encoder(x[:, 4:], causal=True, memory=memory)
    torch.testing.assert_close(last, encoder(x, causal=True)[:, 4:], rtol=0, atol=1e-10)


@torch.no_grad()
def test_beams_continue_the_rows_that_they_are_told_to():
    encoder, x = stack("per_layer", "content"), tokens(4)
    first, second = torch.randn(2, 2 * 3, 1, 8, dtype=torch.float64).unbind()  # three beams per sample
    memory = Memory(room=2, beams=3)
    encoder(x, causal=True, memory=memory)
    memory.keep()
    encoder(first, causal=True, memory=memory)
    memory.keep()
    order = torch.tensor([2, 0, 0, 3, 5, 4])
    memory.reorder(order)
    out = encoder(second, causal=True, memory=memory)
    whole = torch.cat([x.repeat_interleave(3, 0), first[order], second], 1)
    torch.testing.assert_close(out, encoder(whole, causal=True)[:, -1:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("length", ["fixed", "content"])
@torch.no_grad()
def test_a_step_costs_the_same_for_every_row_that_is_kept(length):
    """O(N (d + R)): the operations of a step grow by the same number for each row, and no row is read again."""
    encoder = stack("per_layer", length, num_keys=40, backend="reference").float().requires_grad_(False)
    x, memory, counts = torch.randn(1, 40, 8), Memory(), {}
    for number, row in enumerate(x.split(1, 1), 1):
        if number in (10, 20, 30, 40):
            with FlopCounterMode(display=False) as counter:
                encoder(row, causal=True, memory=memory)
            counts[number] = counter.get_total_flops()
        else:
            encoder(row, causal=True, memory=memory)
        memory.keep()
    per_row = 2 * 2 * (8 + 8 + 8)  # 2 layers, 2 operations: products of width H d for scores and values, and rank R
    extra = [counts[n + 10] - counts[n] for n in (10, 20, 30)]
    assert extra == [10 * per_row] * 3, (counts, extra)


@torch.no_grad()
def test_without_a_room_the_buffers_double():
    memory, moves = Memory(), set()
    for number in range(200):
        out = memory.extend("rows", torch.full((1, 1, 1, 2), float(number)))
        memory.keep()
        moves.add(memory.buffers["rows"].shape[2])
        assert out[0, 0, :, 0].tolist() == list(range(number + 1))
    assert moves == {1, 2, 4, 8, 16, 32, 64, 128, 256}
    memory = Memory(room=3)
    for _ in range(4):
        memory.extend("rows", torch.zeros(1, 1, 1, 2))
        memory.keep()
    assert memory.buffers["rows"].shape[2] == 4
    with pytest.raises(ValueError, match=r"Memory\(room=3\): 4 rows came after the first 1; .* room=None"):
        memory.extend("rows", torch.zeros(1, 1, 1, 2))


@torch.no_grad()
def test_what_a_memory_refuses():
    rows = torch.zeros(2, 1, 3, 4)
    with pytest.raises(ValueError, match="room is at least 0, or None, and beams at least 1, got -1 and 1"):
        Memory(room=-1)
    with pytest.raises(ValueError, match="beams at least 1, got None and 0"):
        Memory(beams=0)
    memory = Memory()
    memory.extend("a", rows)
    with pytest.raises(ValueError, match=r"came twice in one step. After each step call memory.keep\(\)"):
        memory.extend("a", rows)
    with pytest.raises(ValueError, match="4 rows cannot be kept, the last step had 3"):
        memory.keep(4)
    memory.keep()
    with pytest.raises(ValueError, match="did not keep in the first step"):
        memory.extend("b", rows)
    with pytest.raises(ValueError, match=r"rows of shape \(3, 1, 1, 4\) come where \(2, 1, 1, 4\) belong"):
        memory.extend("a", rows.new_zeros(3, 1, 1, 4))
    with torch.enable_grad(), pytest.raises(ValueError, match=r"no gradients go through it. Use torch.no_grad"):
        Memory().extend("a", rows.requires_grad_())


@torch.no_grad()
def test_what_an_encoder_refuses_in_steps():
    x = tokens()
    for scope in SCOPES:
        with pytest.raises(ValueError, match="moves its columns whenever the sequence grows: use length='fixed' or"):
            decoded(stack(scope, "interpolate"), x, [4, 3])
    with pytest.raises(ValueError, match="the mask has 5 key columns and the sequence 6 keys"):
        decoded(stack("shared", "fixed", num_keys=5), x, [4, 1, 1, 1])
    with pytest.raises(ValueError, match=FORBIDDEN_WITH_KEYS):
        stack("none")(x, keys=x, memory=Memory())
    masks = LayerMasks("shared", 1, "static", num_queries=ROWS, num_keys=ROWS)
    with pytest.raises(ValueError, match="must be filled in the first step of decoding, which had 4 tokens"):
        decoded(Encoder(8, 1, 2, masks=masks).double(), x, [4, 3])
    encoder, memory = stack("none"), Memory()
    encoder(x, causal=True, memory=memory)
    with pytest.raises(ValueError, match="came twice"):
        encoder(x, causal=True, memory=memory)

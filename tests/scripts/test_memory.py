"""The memory of a training step: the formula against autograd, the parts against what is built."""

import pytest
import torch
from transformers import LlamaConfig

from scripts import memory
from tasks.audio_description.prefix import PrefixLlama, Prompts


@pytest.mark.parametrize("width, feedforward, heads", [(256, 512, 4), (256, 768, 2), (384, 512, 6)])
def test_a_layers_bytes_are_those_that_autograd_keeps(width, feedforward, heads):
    sizes = LlamaConfig(
        vocab_size=8, hidden_size=width, intermediate_size=feedforward, num_hidden_layers=1, num_attention_heads=heads
    )
    llm, tokens = PrefixLlama(sizes).bfloat16().requires_grad_(False).train(), 200
    x = torch.randn(2, tokens, width, dtype=torch.bfloat16, requires_grad=True)
    prefix = Prompts(llm, torch.randn(2, 1, 10, width, requires_grad=True), torch.randn(1, heads, requires_grad=True))
    embeddings = llm.model.rotary_emb(x, torch.arange(tokens)[None])
    kept = memory.saved_bytes(llm, lambda: llm.model.layers[0](x, position_embeddings=embeddings, prefix=prefix))
    assert 0.9 < kept / (2 * tokens * memory.layer_bytes(sizes)) <= 1.02


def test_the_parts_of_a_small_describer_add_up(compose_run):
    cfg = compose_run("experiment=madv2_lcaam", "scale=mini")
    found = memory.memory(cfg, row_tokens=20)
    weights = found["language model's weights"] + found["adapters' weights (encoder, masks, bridge)"]
    assert found["sum"] == pytest.approx(sum(value for name, value in found.items() if name != "sum"))
    assert found["gradients"] == pytest.approx(weights), "all is trained, in float32"
    assert found["AdamW's two moments"] == pytest.approx(2 * weights)
    more = memory.memory(compose_run("experiment=madv2_lcaam", "scale=mini", "data.batch_size=64"), row_tokens=20)
    assert more["activations of the language model"] == pytest.approx(2 * found["activations of the language model"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["row_tokens=0"], "row_tokens=0: a whole number from 1 on"),
        (["row_tokens=many"], "row_tokens=many"),
        (["experiment=qvhighlights_lcaam"], "the chosen task has no language model"),
        (["task.llm.pretrained=tests"], "tests has no config.json of a model"),
        (["task.widht=3"], "did you mean 'width'"),
    ],
)
def test_what_cannot_be_computed_is_explained(arguments, message):
    with pytest.raises(SystemExit, match=message):
        memory.main(arguments)


def test_the_command_prints_every_part(capsys):
    memory.main(["experiment=madv2_lcaam", "scale=mini", "row_tokens=12"])
    out = capsys.readouterr().out
    assert "computed, not measured" in out
    assert out.count(" GB  ") == 8

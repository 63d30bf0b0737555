"""The memory of a training step: the formula against autograd, the parts against what is built."""

import pytest
import torch
from transformers import LlamaConfig

from scripts import memory
from tasks.audio_description.language_model import pretrained
from tasks.audio_description.prefix import PrefixLlama, Prompts, prefixed
from tests.tasks.audio_description.families import FAMILIES, folder_of, model_of


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
    assert 0.9 < kept / (2 * tokens * memory.layer_bytes(llm)) <= 1.02


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gemma 2"])
def test_a_layers_bytes_are_those_that_autograd_keeps_in_every_family(family):
    """What one more layer with a prefix keeps; Gemma 2 keeps scores, too, whose number grows with the square."""
    sizes = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, sliding_window=1000)
    plain = model_of(family, 64, **sizes, head_dim=64, num_key_value_heads=2, max_position_embeddings=256)
    llm = prefixed(type(plain))(plain.config).bfloat16().requires_grad_(False).train()
    tokens, kept = 200, []
    for layers in (1, 2):
        prompts, gates = torch.randn(2, layers, 10, 256, requires_grad=True), torch.randn(layers, 4, requires_grad=True)
        ids, prefix = torch.zeros(2, tokens, dtype=torch.long), Prompts(llm, prompts, gates)
        options = dict(input_ids=ids, prefix=prefix, use_cache=False)
        kept.append(memory.saved_bytes(llm, lambda options=options: llm(**options)))
    assert 0.8 < (kept[1] - kept[0]) / (2 * tokens * memory.layer_bytes(llm)) <= 1.03


@pytest.mark.parametrize("family", ["qwen3", "phi3"])
def test_the_weights_of_a_folder_of_any_family_are_counted(family, compose_run, tmp_path):
    base = folder_of(tmp_path, family)
    options = ["experiment=madv2_lcaam", "scale=mini", f"task.llm.pretrained={base}", "task.llm.frozen=true"]
    found = memory.memory(compose_run(*options, "task.llm.dtype=bfloat16", "task.prefix_layers=3"))
    weights = pretrained(str(base), "bfloat16", True)[1].parameters()
    assert found["language model's weights"] == pytest.approx(sum(value.nbytes for value in weights) / 1e9)


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
        (["task.llm.pretrained=tests"], "tests has no config.json .*expected: a folder as transformers saves"),
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

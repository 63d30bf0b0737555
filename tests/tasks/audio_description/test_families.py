"""The prefix in language models of twelve families: equal to the equation, in training, with a cache, in batches."""

import logging

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoTokenizer

from tasks.audio_description.language_model import pretrained
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.prefix import Prompts, gated_prefix, prefixed
from tasks.audio_description.projections import Taken, attentions, check_projections
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tests.tasks.audio_description.families import FAMILIES, HEADS, LAYERS, OTHERS, WIDTH, folder_of, model_of
from tests.tasks.audio_description.test_frozen import frozen, trained, weights
from tests.tasks.audio_description.test_module import scenes

READERS, PROMPTS, LENGTH, PADDED = 3, 5, 11, 4
WORDS = 40
IDS = torch.randint(3, WORDS, (2, LENGTH), generator=torch.Generator().manual_seed(0))
KEEP = torch.ones_like(IDS)
KEEP[0, :PADDED] = 0  # padded on the left; longer than the window of the families that have one
POSITIONS = (KEEP.cumsum(-1) - 1).clamp(min=0)
families = pytest.mark.parametrize("family", FAMILIES)


def with_prefix(family):
    """A model that takes a prefix, prompts (B, L, P, D) and gates (L, H)."""
    plain = model_of(family, WORDS)
    llm = prefixed(type(plain))(plain.config)
    llm.load_state_dict(plain.state_dict())
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(2, READERS, PROMPTS, WIDTH, generator=generator)
    return llm.eval(), prompts, torch.randn(READERS, HEADS, generator=generator)


def plain_attention(module, query, key, value, keep, scaling, softcap=None, extra=None, **options):
    """softmax(q k^T) v, one head after the other, and with `extra` the gated softmax over prefix keys and values."""
    repeat = query.shape[1] // key.shape[1]

    def attend(head, key, value, allowed):
        scores = scaling * query[:, head] @ key[:, head // repeat].mT
        scores = scores if softcap is None else softcap * (scores / softcap).tanh()
        return scores.masked_fill(~allowed, -1e9).softmax(-1) @ value[:, head // repeat]

    out = []
    for head in range(query.shape[1]):
        found = attend(head, key, value, keep[:, 0])
        if (layer := module.layer_idx - (LAYERS - READERS)) >= 0 and extra is not None:
            gates, pairs = extra
            found = found + gates[layer, head].tanh() * attend(head, *pairs[layer], torch.ones(1, dtype=torch.bool))
        out.append(found)
    return torch.stack(out, 2), None


AttentionInterface.register("plain_in_a_test", plain_attention)
AttentionMaskInterface.register(
    "plain_in_a_test",
    lambda *arguments, **options: AttentionMaskInterface()["sdpa"](
        *arguments, **options | {"allow_is_causal_skip": False}
    ),
)


@families
@pytest.mark.parametrize("make", [Prompts, gated_prefix])
def test_every_family_reads_the_prefix_as_the_equation_says(family, make):
    """Keys and values are those that the layer itself makes if its rotary embedding turns by no angle."""
    llm, prompts, gates = with_prefix(family)
    check_projections(llm, READERS)
    pairs = []
    for layer, attention in enumerate(attentions(llm)[-READERS:]):
        turn = torch.ones(1, PROMPTS, attention.head_dim)
        taken = Taken()
        options = dict(position_embeddings=(turn, 0 * turn), attention_mask=None, prefix=taken)
        attention(prompts[:, layer], **options)
        pairs.append((taken.key, taken.value))
    with torch.no_grad():
        found = llm(input_ids=IDS, attention_mask=KEEP, prefix=make(llm, prompts, gates)).logits
        plain = model_of(family, WORDS).eval()
        plain.set_attn_implementation("plain_in_a_test")
        options = dict(input_ids=IDS, attention_mask=KEEP, position_ids=POSITIONS)
        expected = plain(**options, extra=(gates, pairs)).logits
        without = plain(**options).logits
    real = KEEP.bool()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-4)
    assert (found - without)[real].abs().max() > 0.1


@families
def test_every_family_is_its_own_model_without_a_prefix_and_at_zero_gates(family):
    llm, prompts, gates = with_prefix(family)
    plain = model_of(family, WORDS).eval()
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        expected = plain(input_ids=IDS, attention_mask=KEEP, position_ids=POSITIONS).logits
        for prefix in (None, Prompts(llm, prompts, 0 * gates)):
            found = llm(input_ids=IDS, attention_mask=KEEP, prefix=prefix).logits
            torch.testing.assert_close(found[KEEP.bool()], expected[KEEP.bool()], rtol=1e-4, atol=2e-5)


def written(llm, prefix, ids=IDS, keep=KEEP, **options):
    options = dict(max_new_tokens=6, do_sample=False, pad_token_id=0) | options
    return llm.generate(input_ids=ids, attention_mask=keep, prefix=prefix, **options)[:, ids.shape[1] :]


@families
def test_every_family_writes_the_same_words_with_and_without_a_cache_alone_and_in_a_batch(family):
    llm, prompts, gates = with_prefix(family)
    found = written(llm, Prompts(llm, prompts, gates))
    assert torch.equal(found, written(llm, gated_prefix(llm, prompts, gates), use_cache=False))
    for row, start in ((0, PADDED), (1, 0)):
        ids = IDS[row : row + 1, start:]
        alone = written(llm, Prompts(llm, prompts[row : row + 1], gates), ids, torch.ones_like(ids))
        assert torch.equal(alone[0], found[row, : alone.shape[1]])


@families
def test_every_family_writes_the_same_words_with_beams_whatever_the_prefix_and_the_cache(family):
    llm, prompts, gates = with_prefix(family)
    found = written(llm, Prompts(llm, prompts, gates), num_beams=2)
    assert torch.equal(found, written(llm, gated_prefix(llm, prompts, gates), num_beams=2, use_cache=False))


@families
def test_every_family_trains_and_its_adapters_are_saved_and_loaded(family, tmp_path):
    base = folder_of(tmp_path / "base", family)
    module = frozen(base, prefix_layers=READERS)
    before = weights(module)
    trained(module, tmp_path, 1).save_checkpoint(tmp_path / "adapters.ckpt")
    moved = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    adapters = {name for name in before if not name.startswith("model.llm.")}
    assert {"model.gates", "model.bridge.prompts"} <= moved <= adapters, "hidden layers of masks move from step 2 on"
    assert {*torch.load(tmp_path / "adapters.ckpt", weights_only=True)["state_dict"]} == adapters
    again = load_module(AudioDescription, tmp_path / "adapters.ckpt")
    assert again.eval().describe(scenes(3)) == module.eval().describe(scenes(3))


@families
def test_no_family_writes_without_its_prefix_unseen(family, monkeypatch):
    llm, prompts, gates = with_prefix(family)
    deaf = attentions(llm)[-1]
    own = deaf.forward
    monkeypatch.setattr(
        deaf, "forward", lambda *a, **k: own(*a, **{n: v for n, v in k.items() if not n.startswith("prefix")})
    )
    for make in (Prompts, gated_prefix):
        with pytest.raises(RuntimeError, match=f"showed the prefix to {READERS - 1} of {READERS} layers"):
            llm.generate(input_ids=IDS, attention_mask=KEEP, prefix=make(llm, prompts, gates), max_new_tokens=2)


def test_layers_that_should_not_read_the_prefix_are_noticed(monkeypatch):
    llm, prompts, gates = with_prefix("llama")
    prefix = gated_prefix(llm, prompts, gates)
    layers = attentions(llm)
    monkeypatch.setattr(layers[0], "layer_idx", LAYERS - 1)  # reads what is meant for the last one
    for other in layers[-2:]:
        monkeypatch.setattr(other, "layer_idx", 0)
    with pytest.raises(RuntimeError, match="showed the prefix to 2 of 3 layers"):
        llm(input_ids=IDS, prefix=prefix)


def test_rows_that_are_no_multiple_of_the_samples_are_refused():
    llm, prompts, gates = with_prefix("llama")
    with pytest.raises(ValueError, match="a prefix of 2 samples does not fit a batch of 3 rows"):
        llm(input_ids=IDS[:1].expand(3, -1), prefix=Prompts(llm, prompts, gates))


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_the_prefix_does_not_fit_is_refused_by_name(name, tmp_path):
    kind, config, why = OTHERS[name]
    kind(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=rf"is a '{name}' model; the prefix goes into .*Qwen3.*: .*{why}"):
        pretrained(str(tmp_path), "float32", True)


def test_a_model_of_pictures_and_text_is_refused(tmp_path):
    from transformers import Gemma3Config

    Gemma3Config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a 'gemma3' model; .*: it is made of several models"):
        pretrained(str(tmp_path), "float32", True)


def test_a_layer_that_makes_its_keys_in_another_way_is_refused(tmp_path, monkeypatch):
    """As after a release of transformers that puts something between the projection and the keys."""
    base = folder_of(tmp_path, "llama")
    kind = type(attentions(model_of("llama", WORDS))[0])
    own = kind.forward

    def forward(self, hidden_states, *args, **options):
        return own(self, 2 * hidden_states, *args, **options)

    monkeypatch.setattr(kind, "forward", forward)
    monkeypatch.setattr("lcaam.integrations.transformers_layers.asks", lambda module: isinstance(module, kind))
    with pytest.raises(CheckpointError, match=r"'llama' model; .*layer 3 makes other keys or values of a prompt"):
        pretrained(str(base), "float32", True)


@pytest.mark.parametrize("given, text", [(None, "</s>"), (1, "<s>")])
def test_a_tokenizer_without_a_beginning_of_sentence_gets_the_models_own(given, text, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    base = folder_of(tmp_path, "qwen3", bos_token_id=given)
    assert AutoTokenizer.from_pretrained(base).bos_token is None
    assert AutoConfig.from_pretrained(base).bos_token_id == given
    tokenizer, llm = pretrained(str(base), "float32", True)
    assert tokenizer.bos_token == text and llm.generation_config.bos_token_id == tokenizer.bos_token_id
    assert f"no beginning of sentence: texts begin with {text}" in caplog.text
    assert frozen(base, prefix_layers=READERS).prompt_rows(scenes(2))[0][0] == tokenizer.bos_token_id

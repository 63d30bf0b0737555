"""Released LLaMA-Adapter weights: the describer writes what the original writes, others are refused."""

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from configs.schema import validate
from scripts.import_checkpoint import main
from scripts.importers.llama_adapter import released
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.prefix import PrefixLlama
from tasks.audio_description.tokenizer import train
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tests.tasks.audio_description.test_frozen import folder_of
from tests.tasks.audio_description.test_module import SENTENCES, build, scenes

LAYERS, WIDTH, HEADS, FEEDFORWARD, READERS, PROMPTS = 4, 32, 2, 48, 3, 5
SIZES = {"hidden_size": WIDTH, "intermediate_size": FEEDFORWARD, "num_hidden_layers": LAYERS}
SIZES |= {"num_attention_heads": HEADS}
IDS = torch.tensor([[1, 9, 5, 20, 11, 7], [1, 3, 30, 8, 8, 12]])


class Original:
    """LLaMA with the adapter as its paper states it, on weights by the names of the original files.

    Layer: h = x + attention(norm(x)), out = h + w2(silu(w1 n) * w3 n), n = norm(h). Queries and keys are turned pair by
    pair, as complex numbers. In the last READERS layers each head adds tanh(gate) softmax(q k_p) v_p, where k_p and v_p
    are wk and wv of the layer's prompts.
    """

    def __init__(self, vocabulary):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape):
            return 0.3 * torch.randn(*shape, generator=generator)

        self.base = {"tok_embeddings.weight": draw(vocabulary, WIDTH), "output.weight": draw(vocabulary, WIDTH)}
        self.base["norm.weight"] = 1 + draw(WIDTH)
        for n in range(LAYERS):
            self.base |= {f"layers.{n}.attention.w{name}.weight": draw(WIDTH, WIDTH) for name in "qkvo"}
            self.base |= {f"layers.{n}.feed_forward.{name}.weight": draw(FEEDFORWARD, WIDTH) for name in ("w1", "w3")}
            self.base[f"layers.{n}.feed_forward.w2.weight"] = draw(WIDTH, FEEDFORWARD)
            self.base |= {f"layers.{n}.{name}.weight": 1 + draw(WIDTH) for name in ("attention_norm", "ffn_norm")}
        self.adapter = {"adapter_query.weight": 5 * draw(READERS * PROMPTS, WIDTH)}
        for n in range(LAYERS - READERS, LAYERS):
            self.adapter[f"layers.{n}.attention.gate"] = 3 * draw(1, HEADS, 1, 1)

    def logits(self, ids):
        w, length, size = self.base | self.adapter, ids.shape[1], WIDTH // HEADS
        angles = torch.arange(length)[:, None] / 10_000.0 ** (torch.arange(0, size, 2) / size)
        turn = torch.polar(torch.ones_like(angles), angles)  # (T, d / 2)

        def norm(x, name):
            return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w[name]

        def heads(x):
            return x.unflatten(-1, (HEADS, size)).transpose(1, 2)

        def turned(x):
            return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

        def softmax(q, k, v, future=0.0):
            return ((q @ k.mT / size**0.5) + future).softmax(-1) @ v

        future = torch.full((length, length), float("-inf")).triu(1)
        x = w["tok_embeddings.weight"][ids]
        for n in range(LAYERS):
            part, y = f"layers.{n}.attention.", norm(x, f"layers.{n}.attention_norm.weight")
            q, k, v = (heads(y @ w[f"{part}{name}.weight"].T) for name in ("wq", "wk", "wv"))
            q = turned(q)
            out = softmax(q, turned(k), v, future)
            if (reader := n - (LAYERS - READERS)) >= 0:
                prompts = w["adapter_query.weight"].view(READERS, 1, PROMPTS, WIDTH)[reader]
                k, v = (heads(prompts @ w[f"{part}{name}.weight"].T) for name in ("wk", "wv"))
                out = out + w[f"{part}gate"].tanh() * softmax(q, k, v)
            x = x + out.transpose(1, 2).flatten(2) @ w[f"{part}wo.weight"].T
            y, part = norm(x, f"layers.{n}.ffn_norm.weight"), f"layers.{n}.feed_forward."
            x = x + (F.silu(y @ w[f"{part}w1.weight"].T) * (y @ w[f"{part}w3.weight"].T)) @ w[f"{part}w2.weight"].T
        return norm(x, "norm.weight") @ w["output.weight"].T

    def converted(self):
        """The language model by transformers' names; it turns halves of a head, so rows of wq and wk change places."""
        names = {f"attention.w{name}": f"self_attn.{name}_proj" for name in "qkvo"}
        names |= {"attention_norm": "input_layernorm"}
        names |= {"ffn_norm": "post_attention_layernorm", "feed_forward.w1": "mlp.gate_proj"}
        names |= {"feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj"}
        ours = {"tok_embeddings.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
        ours |= {"output.weight": "lm_head.weight"}
        for n in range(LAYERS):
            ours |= {f"layers.{n}.{a}.weight": f"model.layers.{n}.{b}.weight" for a, b in names.items()}
        out = {}
        for name, value in self.base.items():
            if name.endswith(("wq.weight", "wk.weight")):
                value = value.view(HEADS, -1, 2, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)
            out[ours[name]] = value
        return out


@pytest.fixture(scope="module")
def original():
    return Original(len(train(SENTENCES)))


@pytest.fixture(scope="module")
def base(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    folder_of(folder, **SIZES)
    llm = PrefixLlama.from_pretrained(folder)
    llm.load_state_dict(original.converted())
    llm.save_pretrained(folder)
    return folder


def imported(tmp_path, base, content):
    torch.save(content, tmp_path / "released.pth")
    out = tmp_path / "run/checkpoints/last.ckpt"
    main(["llama_adapter", str(tmp_path / "released.pth"), str(out), "--llm", str(base)])
    return out


def test_it_says_what_the_original_says(original, base, tmp_path, capsys):
    path = imported(tmp_path, base, original.adapter)
    told = capsys.readouterr().out
    assert f"{PROMPTS} prompts and {HEADS} gates for each of the last {READERS} layers" in told
    module = load_module(AudioDescription, path, llm={"pretrained": str(base), "dtype": "float32"}).eval()
    with torch.no_grad():
        found = module.model.llm(input_ids=IDS, **module.model.constant_prefix(len(IDS))).logits
        torch.testing.assert_close(found, original.logits(IDS), rtol=1e-4, atol=1e-4)
        assert (module.model.llm(input_ids=IDS).logits - found).abs().max() > 0.1, "the prompts count"
    assert module.prefix(scenes(3)).keys() == {"prefix"}, "no input is read"
    ids = IDS[:1]
    for _ in range(6):
        ids = torch.cat([ids, original.logits(ids)[:, -1:].argmax(-1)], 1)
    options = dict(max_new_tokens=6, do_sample=False, eos_token_id=None, **module.model.constant_prefix(1))
    assert torch.equal(module.model.llm.generate(input_ids=IDS[:1], attention_mask=IDS[:1] * 0 + 1, **options), ids)
    content = torch.load(path, weights_only=True)
    assert not any(name.startswith("model.llm.") for name in content["state_dict"]) and content["base_model"]
    cfg = OmegaConf.load(tmp_path / "run/config.yaml")
    assert cfg.task.blind and cfg.task.prefix_layers == READERS and cfg.task.llm.pretrained == str(base)
    validate(cfg)


def test_a_trainings_checkpoint_gives_the_same_adapter(original):
    """It also holds LLaMA, and gates of the layers that have no prompts, which are zero for ever."""
    whole = {"model": original.base | original.adapter | {"layers.0.attention.gate": torch.zeros(1, HEADS, 1, 1)}}
    (prompts, gates, end, remarks), (expected, opened, _, none) = (
        released(content, "x") for content in (whole, original.adapter)
    )
    assert torch.equal(prompts, expected) and torch.equal(gates, opened) and end == LAYERS
    assert not none and f"{len(original.base)} weights of LLaMA" in remarks[0]


def without(content, *names):
    return {name: value for name, value in content.items() if name not in names}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a | {"visual_blocks.0.attn.qkv.weight": torch.ones(1)}, r"visual_blocks.*V2 has a visual path"),
        (lambda a: a | {"layers.1.attention.wq_bias": torch.ones(1)}, r"wq_bias.*V2"),
        (lambda a: without(a, "adapter_query.weight"), "'adapter_query.weight' and .* are expected"),
        (lambda a: without(a, "layers.2.attention.gate"), r"gates of layers \[1, 3\] are not those of neighbours"),
        (lambda a: without(a, "layers.1.attention.gate"), r"\(15, 32\) does not have as many prompts for each of 2"),
    ],
)
def test_other_weights_are_refused(original, change, message):
    with pytest.raises(CheckpointError, match=message):
        released(change(original.adapter), "x")


def test_another_language_model_is_refused(original, base, tmp_path):
    other = folder_of(tmp_path / "other", **SIZES | {"num_hidden_layers": LAYERS + 1})
    with pytest.raises(SystemExit, match=r"of 4 layers of width 32 with 2 heads; .*has 5 layers of width 32"):
        imported(tmp_path, other, original.adapter)


def test_a_training_begins_with_its_prompts_and_gates(original, base, tmp_path):
    path = imported(tmp_path, base, original.adapter)
    llm = {"pretrained": str(base), "frozen": True, "dtype": "float32"}
    sizes = dict(llm=llm, bridge="queries", prompts=PROMPTS, prefix_layers=READERS, init_prefix=str(path))
    module = build(**sizes)
    before = module.model.gates.clone()
    assert torch.equal(before, torch.ones(READERS, HEADS)), "tests and resumed trainings do not read it"
    module.start()
    assert torch.equal(module.model.gates[0], original.adapter["layers.1.attention.gate"].flatten())
    query = original.adapter["adapter_query.weight"]
    assert torch.equal(module.model.bridge.prompts.detach().flatten(0, 1), query)
    with pytest.raises(CheckpointError, match=r"model.bridge.prompts is \(3, 5, 32\), this model needs \(3, 4, 32\)"):
        build(**sizes | {"prompts": 4}).start()
    another = folder_of(tmp_path / "another", 5, **SIZES)
    with pytest.raises(CheckpointError, match="adapters for another language model"):
        build(**sizes | {"llm": llm | {"pretrained": str(another)}}).start()
    with pytest.raises(CheckpointError, match=r"task.init_prefix=.*: there is no such file"):
        build(**sizes | {"init_prefix": str(tmp_path / "absent")}).start()

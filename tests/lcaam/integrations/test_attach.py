"""What attach promises beyond one model: which mask goes where, what it reads, training, copies, refusals."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers as hf

from lcaam import LayerMasks
from lcaam.analysis import record
from lcaam.integrations import transformers_forward
from lcaam.integrations.transformers import FILE, attach, detach, load_masks, save_masks
from tests.lcaam.integrations.small_transformers import (
    HEADS,
    LAYERS,
    TEXT,
    WIDTH,
    inputs,
    layer_masks,
    padded,
    random_masks,
    small,
    with_masks,
)
from tests.lcaam.loop import equation
from tests.lcaam.names import FUSIONS, SCOPES

ROOM = 20  # key positions
IDS = inputs("Llama")["input_ids"]


# -- which mask, made from what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scope", SCOPES)
def test_every_layer_of_bert_is_the_equation_with_its_mask(scope, fusion):
    model = with_masks("Bert", scope, fusion=fusion, groups=HEADS)
    keep = padded(7, 3, 4)["attention_mask"].flip(1).bool()
    found = model(IDS, attention_mask=keep.long()).last_hidden_state
    x, nets = model.embeddings(IDS), model.lcaam["self"].nets
    first = x
    for number, layer in enumerate(model.encoder.layer):
        mask = nets[number if scope == "per_layer" else 0](first if scope == "shared" else x, keys=x).dense()
        a = layer.attention
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (a.self.query, a.self.key, a.self.value))
        score = equation(fusion)(q @ k.transpose(2, 3) / 6**0.5, mask)
        weight = score.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
        attended = a.output((weight @ v).transpose(1, 2).flatten(2), x)
        x = layer.output(layer.intermediate(attended), attended)
    torch.testing.assert_close(found[keep], x[keep], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["Llama", "GPT2", "ViT", "DistilBert"])
@pytest.mark.parametrize("scope", SCOPES)
def test_masks_read_what_comes_into_the_layer(name, scope):
    model = with_masks(name, scope)
    given = {key: value.double() if value.is_floating_point() else value for key, value in inputs(name).items()}
    with record(model) as records:
        states = model(**given, output_hidden_states=True).hidden_states
    masks = model.lcaam["self"]
    shared = masks(states[0], keys=states[0])
    for number, made in enumerate(records):
        expected = masks(states[number], number, shared, keys=states[number]).dense()
        torch.testing.assert_close(made.mask, expected.float(), rtol=0, atol=1e-5)
    assert len(records) == LAYERS


@pytest.mark.parametrize("where", ["encoder", "decoder", "cross"])
def test_each_attention_of_bart_has_its_own_masks_and_no_others(where):
    model = with_masks("Bart", where=where)
    with record(model) as records:
        model(**inputs("Bart"))
    called = {"encoder": "encoder.layers", "decoder": "self_attn", "cross": "encoder_attn"}[where]
    masked = [r.name for r in records if r.mask is not None]
    wanted = [r.name for r in records if called in r.name and (where != "decoder" or "decoder" in r.name)]
    assert masked == wanted and len(masked) == LAYERS and len(records) == 3 * LAYERS
    shapes = {"encoder": (7, 7), "decoder": (5, 5), "cross": (5, 7)}
    assert all(r.mask.shape[2:] == shapes[where] for r in records if r.mask is not None)


@pytest.mark.parametrize("scope", SCOPES)
def test_cross_attention_reads_the_decoder_for_queries_and_the_encoder_for_keys(scope):
    model = with_masks("Bart", scope, "cross", length="content")
    with record(model) as records:
        out = model(**inputs("Bart"), output_hidden_states=True)
    masks, made = model.lcaam["cross"], [r.mask for r in records if r.mask is not None]
    states, keys = out.decoder_hidden_states, out.encoder_last_hidden_state
    shared = masks(states[0], keys=keys)
    for number, mask in enumerate(made):
        expected = masks(states[number], number, shared, keys=keys).dense()
        torch.testing.assert_close(mask, expected.float(), rtol=0, atol=1e-5)


def test_the_decoder_that_bert_can_be_has_cross_attention_by_name():
    torch.manual_seed(0)
    model = hf.BertModel(hf.BertConfig(**TEXT, is_decoder=True, add_cross_attention=True)).eval()
    states = torch.randn(3, 5, WIDTH)
    plain = model(IDS, encoder_hidden_states=states)[0]
    attach(model, layer_masks())
    attach(model, layer_masks("shared"), "cross")
    torch.testing.assert_close(model(IDS, encoder_hidden_states=states)[0], plain, rtol=0, atol=1e-5)
    random_masks(model)
    with record(model) as records:
        model(IDS, encoder_hidden_states=states)
    assert [r.mask.shape[2:] for r in records] == [(7, 7), (7, 5)] * LAYERS
    detach(model, "cross")
    with record(model) as records:
        model(IDS, encoder_hidden_states=states)
    assert [r.mask is None for r in records] == [False, True] * LAYERS
    assert torch.equal(detach(model)(IDS, encoder_hidden_states=states)[0], plain)


def test_static_and_interpolated_masks():
    static = LayerMasks("per_layer", LAYERS, kind="static", num_queries=ROOM, num_keys=ROOM, fusion="gate")
    bert = attach(small("Bert"), static)
    with record(bert) as records:
        bert(IDS)
    torch.testing.assert_close(records[1].mask, static.nets[1].logits()[None, None, :7, :7])
    assert {r.fusion.name for r in records} == {"gate"}
    vit = attach(small("ViT"), layer_masks(num_keys=17, length="interpolate", grid=(4, 4), prefix=1))
    random_masks(vit)
    with record(vit) as records:
        vit(**inputs("ViT"))
    assert [r.mask.shape for r in records] == [(3, 1, 10, 10)] * LAYERS  # for 3 x 3 patches and the class token
    vit = attach(detach(vit), layer_masks(num_keys=11, length="interpolate", grid=(2, 5), prefix=1))
    with pytest.raises(ValueError, match=r"9 positions are not the grid \(2, 5\)"):
        vit(**inputs("ViT"))


# -- training, copies, threads ----------------------------------------------------------------------------------------


def checkpoint_layers(model, use_reentrant):
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})


@pytest.mark.skipif(transformers_forward.HOOKS_INSIDE, reason="older transformers: refused, as the test below says")
@pytest.mark.parametrize("name", ["Bert", "Llama"])
@pytest.mark.parametrize("scope", SCOPES)
def test_gradient_checkpointing_changes_no_gradient_and_mixes_no_forwards(name, scope):
    model = with_masks(name, scope).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            checkpoint_layers(model, use_reentrant=False)
        model.zero_grad()
        first, second = (model(ids, attention_mask=keep)[0] for ids, keep in ((IDS, None), padded(7, 2, 5).values()))
        (first.square().mean() + second.square().mean()).backward()
        found.append({name: p.grad.clone() for name, p in model.lcaam.named_parameters()})
    assert all(grad.any() for grad in found[0].values())
    for key, grad in found[1].items():
        torch.testing.assert_close(grad, found[0][key], rtol=0, atol=1e-9 * (1 + grad.abs().max().item()))


def test_reentrant_checkpointing_is_refused_instead_of_losing_gradients():
    model = with_masks("Llama", "shared").train()
    checkpoint_layers(model, use_reentrant=True)
    with pytest.raises(ValueError, match="use_reentrant=False|use a newer transformers"):  # by the version
        model(IDS).logits.sum().backward()


def test_older_transformers_that_checkpoint_hooks_too_are_refused_what_they_would_get_wrong(monkeypatch):
    monkeypatch.setattr(transformers_forward, "HOOKS_INSIDE", True)
    shared, tied = with_masks("Llama", "shared").train(), with_masks("Llama", "tied").train()
    for model in (shared, tied):
        checkpoint_layers(model, use_reentrant=False)
    tied(IDS).logits.sum().backward()
    for run in (lambda: shared(IDS), lambda: tied(**padded(7, 2, 5))):
        with pytest.raises(ValueError, match="use a newer transformers, or masks of scope 'tied' or 'per_layer'"):
            run()


def test_only_the_part_with_masks_gets_another_attention_function():
    vision = dict(hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS, num_attention_heads=4)
    config = hf.CLIPConfig(text_config={**TEXT}, vision_config={**vision, "image_size": 8, "patch_size": 4})
    model = hf.CLIPModel(config)
    before = model.text_model.config._attn_implementation
    for where in ("vision_model", "text_model"):
        attach(model, layer_masks(), where)
        found = (model.vision_model.config._attn_implementation, model.text_model.config._attn_implementation)
        assert found == ("lcaam", before if where == "vision_model" else "lcaam")
    detach(detach(model, "vision_model"), "text_model")
    assert model.text_model.config._attn_implementation == model.vision_model.config._attn_implementation == before


def test_the_masks_are_a_part_of_the_model():
    model = small("Bert").double().train()
    masks = layer_masks("tied")
    assert attach(model, masks) is model and model.lcaam["self"] is masks
    assert masks.training and next(masks.parameters()).dtype == torch.float64
    assert set(masks.parameters()) < set(model.parameters())
    assert "lcaam.self.nets.0.last.weight" in model.state_dict()
    assert not model.eval().lcaam["self"].training


def test_copies_and_pickles_have_masks_of_their_own():
    model = with_masks("Llama", "shared")
    expected = model(IDS).logits
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(IDS).logits, expected)
        torch.nn.init.ones_(twin.lcaam["self"].nets[0].last.weight)
        assert not torch.equal(twin(IDS).logits, expected)
        detach(twin)
        assert not hasattr(twin, "lcaam") and not any(module._forward_pre_hooks for module in twin.modules())
        torch.testing.assert_close(twin(IDS).logits, small("Llama").double()(IDS).logits)
    assert torch.equal(model(IDS).logits, expected)


@torch.no_grad()
def test_threads_do_not_see_each_others_masks():
    model = with_masks("Llama", "shared")
    batches = [inputs("Llama", batch, seed=batch)["input_ids"] for batch in (1, 2, 3, 4)] * 4
    expected = [model(ids).logits for ids in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(lambda ids: model(ids).logits, batches), expected, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_it_compiles_as_one_graph(scope):
    model = with_masks("Bert", scope)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for given in (dict(input_ids=IDS), padded(7, 2, 5)):
        torch.testing.assert_close(compiled(**given)[0], model(**given)[0], rtol=0, atol=1e-9)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_masks_that_do_not_fit_are_refused_before_anything_changes():
    bert, clip = (
        small("Bert"),
        hf.CLIPModel(hf.CLIPConfig(text_config={**TEXT}, vision_config={**TEXT, "image_size": 8})),
    )
    wrong = [
        (bert, LayerMasks("tied", 3, dim=WIDTH, num_keys=9), {}, "masks for 3 layers given to 'self' of BertModel.* 2"),
        (bert, layer_masks(dim=25), {}, "read tokens of width 25 given to 'self' of BertModel, whose width is 24"),
        (bert, layer_masks(groups=3), {}, "masks with 3 groups .* allowed: 1, or one for each of 4 heads"),
        (small("Llama"), layer_masks(groups=3), {}, "1, or one for each of 4 heads, or one for each of 2 heads"),
        (bert, layer_masks(), dict(where="cross"), "BertModel has no attention 'cross'; it has self"),
        (bert, layer_masks(), dict(backend="spda"), "unknown backend 'spda'.*'sdpa'"),
        (clip, layer_masks(), {}, "CLIPModel has several attentions; say where: text_model, vision_model"),
        (clip, layer_masks(), dict(where="text_mode"), "it has text_model, vision_model. Did you mean 'text_model'"),
        (small("Bart"), layer_masks(), {}, "say where: encoder, decoder, cross"),
    ]
    for model, masks, options, message in wrong:
        before = model.config._attn_implementation
        with pytest.raises(ValueError, match=message):
            attach(model, masks, **options)
        assert model.config._attn_implementation == before and not hasattr(model, "lcaam")
        assert not any(module._forward_pre_hooks for module in model.modules())


def test_misuse_is_an_error():
    bert = small("Bert")
    with pytest.raises(TypeError, match=r"takes a PreTrainedModel of transformers, got torch.nn.modules.linear.Linear"):
        attach(torch.nn.Linear(2, 2), layer_masks())
    with pytest.raises(TypeError, match="takes LayerMasks, got ContextAwareMask"):
        attach(bert, layer_masks().nets[0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'fusion'"):
        attach(bert, layer_masks(), fusion="mul")
    with pytest.raises(ValueError, match="detach: this BertModel has no masks attached"):
        detach(bert)
    attach(bert, layer_masks())
    with pytest.raises(ValueError, match=r"'self' of this model has masks already; detach\(model, 'self'\) first"):
        attach(bert, layer_masks())
    with pytest.raises(ValueError, match="detach: no masks at 'cross'; there are some at self"):
        detach(bert, "cross")
    with pytest.raises(ValueError, match="BertModel has masks attached to 'self'; detach them first"):
        bert(IDS, soft_mask=layer_masks().nets[0](torch.randn(3, 7, WIDTH)))
    layer = attach(detach(bert), layer_masks("shared")).encoder.layer[1]
    with pytest.raises(ValueError, match=r"encoder.layer.1 cannot run by itself, unless the masks have scope 'tied'"):
        layer(torch.randn(3, 7, WIDTH))
    layer = attach(detach(bert), layer_masks()).encoder.layer[1]
    assert layer(torch.randn(3, 7, WIDTH)).shape == (3, 7, WIDTH)
    with pytest.raises(ValueError, match=r"no mask came to encoder.layer.1.attention.self of BertModel"):
        layer.attention(torch.randn(3, 7, WIDTH))


def test_an_attention_that_does_not_use_its_mask_is_named():
    bert = attach(small("Bert"), layer_masks())
    plain = small("Bert")(IDS)[0]
    bert.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match=r"encoder.layer.0.attention.self .* did not use its mask: .*\(it is 'sdpa'\)"):
        bert(IDS)
    assert torch.equal(detach(bert)(IDS)[0], plain)


def test_layers_that_do_not_hand_keywords_down_or_do_not_run_are_named():
    """Found out at the first call, since nothing but running tells; the model is itself again without masks."""
    bert, plain = attach(small("Bert"), layer_masks()), small("Bert")(IDS)[0]
    attention = bert.encoder.layer[1].attention
    whole = attention.forward
    attention.forward = lambda states, mask=None, *args, **options: whole(states, mask)
    with pytest.raises(
        ValueError, match=r"no mask came to encoder.layer.1.attention.self of BertModel: the layer does"
    ):
        bert(IDS)
    del attention.forward
    layer = bert.encoder.layer[1]
    bert.encoder.layer[1] = torch.nn.Identity()
    bert.encoder.layer[1].forward = lambda states, *args, **options: states
    with pytest.raises(ValueError, match=r"encoder.layer.1 of BertModel did not run, so their masks were not used"):
        bert(IDS)
    bert.encoder.layer[1] = layer
    assert torch.equal(detach(bert)(IDS)[0], plain)


def test_layers_left_out_on_purpose_are_no_error():
    torch.manual_seed(0)
    model = attach(small("OPT"), layer_masks("shared")).train()
    model.model.decoder.layerdrop = 1.0
    model(IDS)
    model.model.decoder.layerdrop = 0.5
    for _ in range(8):
        model(IDS).logits.sum().backward()
    assert all(p.grad is not None for p in model.lcaam.parameters())


def test_files_of_other_masks_are_refused(tmp_path):
    model = with_masks("Bert")
    path = save_masks(model, tmp_path / "new")
    assert path == tmp_path / "new" / FILE
    with pytest.raises(FileNotFoundError, match=r"lcaam.safetensors does not exist; save_masks\(model, folder\)"):
        load_masks(model, tmp_path)
    for options, message in [
        (dict(fusion="add"), "'fusion': 'mul'.* and the model has .*'fusion': 'add'"),
        (dict(scope="tied"), "'scope': 'per_layer'.* and the model has .*'scope': 'tied'"),
        (dict(num_keys=9), r"self.nets.0.last.bias: \(20,\) in the file, \(9,\) here"),
        (dict(depth=1), r"self.nets.0.hidden.0.bias: \(24,\) in the file, None here"),
    ]:
        other = attach(small("Bert"), layer_masks(**options))
        before = copy.deepcopy(other.lcaam.state_dict())
        with pytest.raises(ValueError, match=message):
            load_masks(other, tmp_path / "new")
        assert all(torch.equal(tensor, before[name]) for name, tensor in other.lcaam.state_dict().items())
    with pytest.raises(ValueError, match="load_masks: this BertModel has no masks attached"):
        load_masks(small("Bert"), tmp_path / "new")

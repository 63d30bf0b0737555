"""Scorers of sentence pairs: words against pycocoevalcap and counting by hand, BERTScore against its definition."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.rouge.rouge import Rouge
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from tasks.audio_description import scorers
from tasks.audio_description.metrics import recall_over_movies
from tasks.audio_description.scorers import BERTScore, Pieces, RougeL, TokenF1, batches, build_scorer, f1
from tasks.common.errors import CheckpointError

TEXT = "SOMEONE nods He She walks slowly into the dark room, and closes door. A man's car drives off"
WORDS = TEXT.split()


def some_sentences(count, longest=12, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, longest + 1))) for _ in range(count)]


def every_pair(rows, columns):
    """All pairs of the first `rows` sentences with the `columns` behind them."""
    return np.array([(i, rows + j) for i in range(rows) for j in range(columns)])


def table(scorer, generated, references):
    pairs = every_pair(len(generated), len(references))
    return scorer.score(scorer.encode([*generated, *references]), pairs).reshape(len(generated), len(references))


# -- words ------------------------------------------------------------------------------------------------------------


def test_rouge_l_equals_pycocoevalcap():
    generator = np.random.default_rng(0)
    sentences = [" ".join(generator.choice(list("abcdef"), size)) for size in (1, 2, 3, 5, 8, 13, 40)]
    ours = table(RougeL(), sentences, sentences[::-1])
    for i, generated in enumerate(sentences):
        for j, reference in enumerate(sentences[::-1]):
            assert ours[i, j] == pytest.approx(Rouge().calc_score([generated], [reference]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(" ".join), min_size=2, max_size=5))
def test_rouge_l_equals_pycocoevalcap_on_any_few_words(sentences):
    ours = table(RougeL(), sentences, sentences)
    theirs = [[Rouge().calc_score([a], [b]) for b in sentences] for a in sentences]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def slow_f1(generated, reference):
    common = sum((Counter(generated) & Counter(reference)).values())
    return 2 * common / (len(generated) + len(reference))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("aabcd"), min_size=1, max_size=9), min_size=2, max_size=5))
def test_token_f1_counts_every_word_as_often_as_both_have_it(sentences):
    texts = [" ".join(words) for words in sentences]
    slow = [[slow_f1(a, b) for b in sentences] for a in sentences]
    np.testing.assert_allclose(table(TokenF1(), texts, texts), slow, atol=1e-12)


def test_token_f1_ignores_case_and_punctuation_and_rouge_l_only_case():
    assert table(TokenF1(), ["He NODS, slowly."], ["he nods slowly"]).item() == pytest.approx(1)
    assert table(RougeL(), ["He NODS slowly"], ["he nods slowly"]).item() == pytest.approx(1)
    assert table(RougeL(), ["he nods."], ["he nods"]).item() == pytest.approx(0.5)
    assert table(TokenF1(), ["the man and the dog"], ["the dog the the"]).item() == pytest.approx(2 * 3 / 9)


@pytest.mark.parametrize("scorer", [RougeL, TokenF1])
def test_sentences_without_words_score_zero(scorer):
    empty = ["", "  \n"] + ["..."] * (scorer is TokenF1)
    scores = table(scorer(), [*empty, "a b"], [*empty, "a b"])
    assert scores[-1, -1] == pytest.approx(1)
    scores[-1, -1] = 0
    assert not scores.any()
    assert not table(scorer(), empty, empty).any()


@pytest.mark.parametrize("scorer", [RougeL, TokenF1])
def test_a_runaway_sentence_changes_no_other_score(scorer):
    sentences = some_sentences(20)
    alone = table(scorer(), sentences, sentences)
    beside = table(scorer(), [*sentences, "the man " * 300], [*sentences, "the man " * 300])
    np.testing.assert_array_equal(beside[:-1, :-1], alone)
    assert beside[-1, -1] == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 200))
def test_batches_hold_every_index_once_and_stay_within_the_budget(costs, budget):
    costs = np.array(costs, dtype=int)
    parts = list(batches(costs, budget))
    assert sorted(i for part in parts for i in part) == list(range(len(costs)))
    assert all(len(part) == 1 or len(part) * costs[part].max() <= budget or costs[part].max() == 0 for part in parts)


# -- BERTScore --------------------------------------------------------------------------------------------------------


def small(**changes):
    sizes = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    return sizes | {"initializer_range": 0.3} | changes


def write_roberta(folder):
    """A RoBERTa of 3 random layers, and a byte-level tokenizer that has learned WORDS."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(some_sentences(100), trainer)
    model = json.loads(bpe.to_str())["model"]
    tokenizer = RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ids = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2)
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=42, type_vocab_size=1, **ids, **small())
    RobertaModel(config).save_pretrained(folder)
    return str(folder)


def write_bert(folder):
    words = sorted({word.strip(".,").lower() for word in WORDS} | {*".,'", "s", "man"})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=40)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **small())).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {"roberta": write_roberta(root / "roberta"), "bert": write_bert(root / "bert")}


def slow_vectors(folder, kind, sentence, layer):
    """Word pieces and their states in the whole network, the sentence alone."""
    options = {"add_prefix_space": True} if kind == "roberta" else {}
    ids = AutoTokenizer.from_pretrained(folder, **options)(sentence)["input_ids"]
    network = {"roberta": RobertaModel, "bert": BertModel}[kind].from_pretrained(folder).eval()
    with torch.no_grad():
        states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
    return ids, states.double().numpy()


def slow_bert_score(generated, reference):
    """Section 3 of the paper, a word piece at a time; the first and last one are matched, but not counted."""

    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    def share(own, other):
        return np.mean([max(cosine(x, y) for y in other) for x in own[1:-1]])

    precision, recall = share(generated, reference), share(reference, generated)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("kind, layer", [("roberta", 0), ("roberta", 2), ("roberta", 3), ("bert", 1), ("bert", 3)])
def test_bert_score_equals_its_definition(encoders, kind, layer):
    sentences = [*some_sentences(9, seed=layer), "nods"]
    vectors = [slow_vectors(encoders[kind], kind, sentence, layer)[1] for sentence in sentences]
    slow = [[slow_bert_score(a, b) for b in vectors] for a in vectors]
    ours = table(BERTScore(encoders[kind], layer, batch_size=4), sentences, sentences)
    np.testing.assert_allclose(ours, slow, atol=2e-6)


def test_robertas_first_word_is_the_piece_that_it_is_elsewhere(encoders):
    ids, _ = slow_vectors(encoders["roberta"], "roberta", "nods He nods", 0)
    assert ids[1] == ids[3], "the reference itself writes both alike"
    scorer = BERTScore(encoders["roberta"], 0)
    seen = []
    scorer.network.embeddings.word_embeddings.register_forward_hook(lambda m, given, out: seen.append(given[0]))
    scorer.encode(["nods He nods"])
    assert seen[0].tolist() == [ids]


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_empty_sentences_score_zero_and_never_reach_the_encoder(encoders, kind):
    scorer = BERTScore(encoders[kind], 2)
    scores = table(scorer, ["", " \n", "He nods"], ["", "He nods"])
    assert scores[2, 1] == pytest.approx(1, abs=1e-6)
    scores[2, 1] = 0
    assert not scores.any()
    assert not table(scorer, ["", ""], [""]).any()


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_sentence_longer_than_the_encoder_is_cut_and_leaves_the_others_alone(encoders, kind):
    scorer = BERTScore(encoders[kind], 2)
    long = "the man walks " * 60
    alone, beside = (table(scorer, rows, ["He nods", "A car"]) for rows in (["She walks"], ["She walks", long]))
    np.testing.assert_allclose(beside[:1], alone, atol=1e-6)
    places = 40 if kind == "bert" else 42 - 2  # RoBERTa counts its places from 2
    assert len(scorer.encode([long])[0].vectors) == places
    assert np.isfinite(beside).all()


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_every_sentence_passes_the_encoder_once_and_only_the_layers_that_are_read(encoders, kind):
    scorer = BERTScore(encoders[kind], 2, batch_size=5)
    rows, layers = [], []
    network = scorer.network
    network.embeddings.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    for layer in network.encoder.layer:
        layer.register_forward_hook(lambda module, given, out: layers.append(module))
    texts = some_sentences(9, longest=6)
    scenes = [
        {"movie": movie, "start": float(i), "generated": texts[i % 4], "reference": texts[(2 * i + shift) % 9]}
        for movie, shift in (("a", 0), ("b", 1))
        for i in range(20)
    ]
    scenes[5]["generated"] = ""
    recalls = recall_over_movies(scenes, scorers=[scorer])
    assert set(recalls) == {f"R@{k}/16[BERTScore{x}]" for k in (1, 5) for x in ("", ",windows")}
    assert sum(rows) == len(set(texts))
    assert len(layers) == 2 * len(rows)


def test_padding_matches_nothing_though_all_similarities_are_negative():
    up, down = torch.tensor([[0.6, 0.8]]), torch.tensor([[-0.8, -0.6]])
    one, two, many = (Pieces(vectors, torch.ones(len(vectors))) for vectors in (up, down, down.repeat(5, 1)))
    assert f1([one], [two]).item() == pytest.approx(-0.96)
    np.testing.assert_allclose(f1([one, many, one], [two, one, many]), [-0.96] * 3, atol=1e-6)


def test_the_scorer_neither_trains_nor_drops_out(encoders):
    scorer = BERTScore(encoders["roberta"], 3)
    sentences = some_sentences(6)
    np.testing.assert_array_equal(table(scorer, sentences, sentences), table(scorer, sentences, sentences))
    assert not scorer.encode(sentences)[0].vectors.requires_grad


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_layer_that_the_encoder_has_not_is_refused(encoders):
    for layer in (17, 4, -1):
        with pytest.raises(ValueError, match=f"has 3 layers: layer must be between 0 and that, got {layer}"):
            BERTScore(encoders["bert"], layer)


def test_an_encoder_that_does_more_after_its_last_layer_is_refused(encoders, monkeypatch):
    """Without its later layers it would put out other states than the layer's."""
    own = scorers.load_encoder

    def load(name):
        tokenizer, network = own(name)
        network.register_forward_hook(lambda *call: replace(call[2], last_hidden_state=2 * call[2].last_hidden_state))
        return tokenizer, network

    monkeypatch.setattr(scorers, "load_encoder", load)
    with pytest.raises(CheckpointError, match="without the layers after layer 2 does not put out what that layer does"):
        BERTScore(encoders["bert"], 2)


def test_a_missing_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(CheckpointError, match=f"'{name}' is neither a folder with an encoder and its tokenizer"):
            BERTScore(name)


def test_a_folder_without_all_weights_is_refused(encoders, tmp_path):
    BertTokenizer.from_pretrained(encoders["bert"]).save_pretrained(tmp_path)
    network = BertModel.from_pretrained(encoders["bert"])
    weights = {
        name: value for name, value in network.state_dict().items() if "layer.1.attention.self.query" not in name
    }
    network.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(
        CheckpointError, match=r"lacks 2 weights, the first of them encoder.layer.1.attention.self.query"
    ):
        BERTScore(tmp_path, 1)


def test_a_tokenizer_of_another_encoder_is_refused(encoders, tmp_path):
    RobertaTokenizer.from_pretrained(encoders["roberta"]).save_pretrained(tmp_path)
    BertModel(BertConfig(vocab_size=9, max_position_embeddings=40, **small())).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the tokenizer of .* word pieces, its encoder 9"):
        BERTScore(tmp_path, 1)


def test_a_model_that_is_no_encoder_is_refused(encoders, tmp_path):
    RobertaTokenizer.from_pretrained(encoders["roberta"]).save_pretrained(tmp_path)
    GPT2Model(GPT2Config(vocab_size=400, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="needs an encoder such as BERT or RoBERTa.* is a GPT2Model"):
        BERTScore(tmp_path, 1)


def test_a_device_or_batch_size_that_cannot_be_is_refused(encoders):
    with pytest.raises(ValueError, match="device 'toaster' cannot be used"):
        BERTScore(encoders["bert"], 1, device="toaster")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        BERTScore(encoders["bert"], 1, batch_size=0)


def test_scorers_are_built_by_name(encoders):
    assert isinstance(build_scorer("rougeL"), RougeL) and isinstance(build_scorer("tokenF1"), TokenF1)
    scorer = build_scorer(f"BERTScore={encoders['roberta']}", layer=2)
    assert (scorer.name, scorer.model, scorer.layer) == ("BERTScore", encoders["roberta"], 2)


@pytest.mark.parametrize(
    "name, message",
    [
        ("rougel", "no scorer 'rougel', only rougeL, tokenF1, BERTScore; did you mean 'rougeL'"),
        ("bertscore=x", "did you mean 'BERTScore'"),
        ("CLIP", "no scorer 'CLIP'"),
        ("", "no scorer ''"),
        ("tokenF1=x", "tokenF1 takes no model, got 'tokenF1=x'"),
    ],
)
def test_unknown_scorers_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        build_scorer(name)

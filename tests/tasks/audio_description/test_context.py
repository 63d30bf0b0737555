"""Earlier descriptions and subtitles in the prompt: budgets, padding on either side, a model's own words as context."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tasks.audio_description.context import IGNORED, Context, History, PromptBuilder
from tasks.audio_description.tokenizer import train
from tasks.common.errors import CheckpointError
from tests.tasks.audio_description.test_module import FACTS, SENTENCES, build, scenes

TOKENIZER = train([*SENTENCES, "say before: now"])
PREVIOUS = [[], ["a one while five rings"], SENTENCES[:3], ["a two"] * 20]
SUBTITLES = [["six"], [], ["one two", "three"], []]


def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def builder(prompt="", **options):
    return PromptBuilder(TOKENIZER, prompt, Context(**{"separator": " : ", **options}))


def with_context(rows=4, **kinds):
    """The first scenes, with their context."""
    return {**{name: value[:rows] for name, value in scenes().items()}, **kinds}


def test_context_stands_in_order_between_the_beginning_and_the_prompt():
    found = builder("say", previous_label="before", subtitles_label="now").rows(
        2, previous=[["a one", "a two"], []], subtitles=[[" six "], []]
    )
    assert found == [[1, *ids("before : a one : a two : "), *ids("now : six : "), *ids("say")], [1, *ids("say")]]
    assert builder("say").rows(3) == [[1, *ids("say")]] * 3


def test_the_oldest_sentences_go_first_and_the_newest_words_stay():
    sentences = ["a one while five rings", "a two while six rings", "a three while seven rings"]
    for budget in range(1, 60):
        block = builder(previous_tokens=budget, previous_label="before").rows(1, previous=[sentences])[0][1:]
        assert len(block) <= budget
        kept = next((n for n in (3, 2, 1) if len(ids(" : ".join(["before", *sentences[-n:]]) + " : ")) <= budget), 0)
        if kept:
            assert block == ids(" : ".join(["before", *sentences[-kept:]]) + " : ")
        elif block:
            text = TOKENIZER.decode(block)
            assert text.startswith("before :") and text.rstrip(" :").endswith("rings")
    assert len(block) > 10, "the last budget holds all three"


def test_empty_sentences_and_marks_inside_sentences_are_left_out():
    found = builder(previous_label="").rows(1, previous=[["", "  ", "a <s>one</s>"]])[0]
    assert found[0] == 1
    assert not {1, 2} & set(found[1:])
    assert TOKENIZER.decode(found[1:]).split() == ["a", "one", ":"]


@pytest.mark.parametrize("name", ["previous_tokens", "subtitle_tokens"])
def test_a_budget_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name}: 0 is out of range; allowed: at least 1"):
        Context(**{name: 0})


@pytest.mark.parametrize("kind", ["previous", "subtitles"])
def test_a_budget_that_its_label_uses_up_is_refused_where_it_is_used(kind):
    name, label = {"previous": ("previous_tokens", "before"), "subtitles": ("subtitle_tokens", "now")}[kind]
    taken = len(ids(f"{label} : "))
    labels = {"previous_label": "before", "subtitles_label": "now"}
    kinds = {"previous": kind == "previous", "subtitles": kind == "subtitles"}
    with pytest.raises(CheckpointError, match=rf"task\.context\.{name}: {taken} leaves no room .* take {taken} tokens"):
        builder(**labels, **{name: taken}).longest(**kinds)
    builder(**labels, **{name: taken + 1}).longest(**kinds)
    builder(**labels, **{name: taken}).longest(**{other: not used for other, used in kinds.items()})


def test_training_pads_on_the_right_and_counts_the_description_alone():
    prompts = [[1, 7, 8, 9], [1], [1, 5]]
    texts = ["a one", "a two while six rings", ""]
    inputs, labels = builder().for_training(prompts, texts)
    for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        whole = [*prompt, *ids(text), 2]
        wanted = [IGNORED] * (len(prompt) - 1) + whole[len(prompt) :]
        width = inputs.shape[1]
        assert inputs[row].tolist() == (whole + [0] * width)[:width]
        assert labels[row].tolist() == (wanted + [IGNORED] * width)[:width]


def test_generation_pads_on_the_left():
    found, keep = builder().for_generation([[1, 7, 8], [1], [1, 5]])
    assert found.tolist() == [[1, 7, 8], [0, 0, 1], [0, 1, 5]]
    assert keep.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("prompt", [[], [5, 6], [5, 1], [1, 5, 1]])
def test_a_prompt_without_exactly_one_beginning_is_refused(prompt):
    for use in (lambda b: b.for_generation([[1], prompt]), lambda b: b.for_training([[1], prompt], ["a", "a"])):
        with pytest.raises(ValueError, match="must begin with the one beginning of sentence"):
            use(builder())


def test_a_tokenizer_that_cannot_pad_is_refused():
    lacking = train(SENTENCES)
    lacking.pad_token = None
    with pytest.raises(ValueError, match=r"no beginning of sentence or no padding \(bos=1, pad=None\)"):
        PromptBuilder(lacking).for_generation([[1]])


@pytest.mark.parametrize("bridge", ["tokens", "queries"])
def test_the_loss_of_a_batch_with_context_is_that_of_its_rows_by_hand(bridge):
    module = build(bridge=bridge, prompt="describe one").eval()
    batch = with_context(previous=PREVIOUS, subtitles=SUBTITLES)
    total = count = 0
    for i in range(4):
        one = {name: value[i : i + 1] for name, value in batch.items()}
        prompt = module.prompt_rows(one)[0]
        whole = [*prompt, *module.tokenizer(batch["text"][i], add_special_tokens=False)["input_ids"], 2]
        logits = module.model.llm(input_ids=torch.tensor([whole]), **module.prefix(one)).logits.log_softmax(-1)
        for position in range(len(prompt), len(whole)):
            total -= logits[0, position - 1, whole[position]].item()
            count += 1
    assert len({len(row) for row in module.prompt_rows(batch)}) > 2
    assert module.sentence_loss(batch).item() == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("preset", ["greedy", "autoad"])
@pytest.mark.parametrize("bridge", ["tokens", "queries"])
def test_a_row_is_described_the_same_in_any_batch(bridge, preset):
    """Prompts of different lengths, beams, repetition controls: padding and neighbours change nothing."""
    module = build(bridge=bridge, decoding={"preset": preset, "max_new_tokens": 12}).eval()
    batch = with_context(previous=PREVIOUS, subtitles=SUBTITLES)
    together = module.describe(batch)
    alone = [module.describe({name: value[i : i + 1] for name, value in batch.items()})[0] for i in range(4)]
    backwards = module.describe(
        {name: value.flip(0) if torch.is_tensor(value) else value[::-1] for name, value in batch.items()}
    )
    assert together == alone == backwards[::-1]
    assert len(set(together)) > 1


def test_context_changes_what_a_model_says_and_no_context_changes_nothing():
    module = build().eval()
    plain = with_context()
    empty = with_context(previous=[[]] * 4, subtitles=[[]] * 4)
    assert torch.equal(module.sentence_loss(plain), module.sentence_loss(empty))
    assert module.describe(plain) == module.describe(empty)
    full = with_context(previous=PREVIOUS)
    assert not torch.equal(module.sentence_loss(plain), module.sentence_loss(full))


def test_a_blind_model_reads_no_context_either():
    module = build(blind=True).eval()
    assert torch.equal(module.sentence_loss(with_context(previous=PREVIOUS)), module.sentence_loss(with_context()))


def test_context_that_the_language_model_has_no_positions_for_is_refused():
    facts = {**FACTS, "previous": "ground_truth", "previous_count": 2, "subtitles": True}
    llm = {"config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}}
    llm["config"]["max_position_embeddings"] = 64
    with pytest.raises(CheckpointError, match=r"may take 265 tokens.* has 64 positions.*201 fewer"):
        build(facts=facts, llm=llm)
    build(facts=facts, llm=llm, context={"previous_tokens": 40, "subtitle_tokens": 15})
    build(llm=llm)


def test_history_keeps_the_last_of_each_movie():
    history = History(2)
    assert history.before(["a", "b"]) == [[], []]
    history.add([{"movie": movie, "generated": text} for movie, text in zip("aabaa", "12345", strict=True)])
    assert history.before(["b", "a", "c"]) == [["3"], ["4", "5"], []]


class Recurrent(pl.LightningDataModule):
    """Two movies of three segments, in batches that hold one segment of each; `previous` is left to the model."""

    def __init__(self, mode="predicted"):
        super().__init__()
        self.mode = mode

    def batches(self):
        whole = {**scenes(6), "text": SENTENCES[:6], "movie": ["m", "n"] * 3}
        pairs = [{name: value[i : i + 2] for name, value in whole.items()} for i in (0, 2, 4)]
        return DataLoader([{**pair, "previous": [[], []]} for pair in pairs], batch_size=None)

    val_dataloader = test_dataloader = batches

    def facts(self):
        return {**FACTS, "previous": self.mode, "previous_count": 1}


@pytest.mark.parametrize("trained_with", ["none", "predicted"])
def test_a_model_that_reads_its_own_words_equals_a_loop_by_hand(trained_with):
    """Whatever it was trained with: evaluation decides."""
    facts = {**FACTS, "previous": trained_with, "previous_count": 1}
    module = build(facts=facts, decoding={"max_new_tokens": 6}).eval()
    said = {"m": [], "n": []}
    for batch in Recurrent().batches():
        for i, movie in enumerate(batch["movie"]):
            one = {name: value[i : i + 1] for name, value in batch.items()}
            said[movie] += module.describe({**one, "previous": [said[movie][-1:]]})
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_checkpointing=False)
    trainer.test(module, Recurrent(), verbose=False)
    found = {movie: [row["generated"] for row in module.predictions if row["movie"] == movie] for movie in said}
    assert found == said
    trainer.test(module, Recurrent("none"), verbose=False)
    assert module.history is None
    independent = [row["generated"] for row in module.predictions if row["movie"] == "m"]
    assert independent != said["m"], "the context is read"


def test_validation_reads_the_models_own_words_without_scoring_them():
    module = build(facts={**FACTS, "previous": "predicted", "previous_count": 1}, decoding={"max_new_tokens": 6})
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_checkpointing=False)
    losses = [trainer.validate(module, Recurrent(mode), verbose=False)[0]["val/loss"] for mode in ("predicted", "none")]
    assert losses[0] != losses[1]
    assert module.predictions == []

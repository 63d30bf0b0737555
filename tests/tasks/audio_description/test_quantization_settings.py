"""Which settings go with a language model in 8 or 4 bits."""

import pytest

from configs.errors import ConfigError
from configs.schema import validate
from tasks.audio_description.language_model import LanguageModel

KINDS = ("int8", "nf4")


@pytest.mark.parametrize("llm, has", [({"pretrained": None}, "pretrained=null"), ({"frozen": False}, "frozen=false")])
@pytest.mark.parametrize("kind", KINDS)
def test_it_belongs_to_a_pretrained_frozen_language_model(kind, llm, has):
    with pytest.raises(
        ConfigError, match=rf"task\.llm\.quantization={kind} with task\.llm\.{has}: .*llm\.quantization=none"
    ):
        LanguageModel(**{"pretrained": "somewhere", "quantization": kind, **llm})


def test_a_misspelt_kind_is_refused_before_anything_is_loaded(compose_run):
    validate(compose_run("experiment=madv2_lcaam", "task.llm.quantization=nf4"))
    with pytest.raises(ConfigError, match="task.llm.quantization: 'nf8' is not one of none, int8, nf4"):
        validate(compose_run("experiment=madv2_lcaam", "task.llm.quantization=nf8"))

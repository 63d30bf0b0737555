"""The first look at a command line: how its words are written, whether the chosen files are there, and its keys.

Hydra's own parser answers such mistakes with its grammar ("missing EQUAL at '<EOF>'"), or takes `--experiment` for the
beginning of `--experimental-rerun`. Here each is one ConfigError that says what to write instead.
"""

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from configs import quoting
from configs.command_line import GROUPS, chosen_sweep, marked, of_sweep
from configs.composing import composed
from configs.errors import ConfigError, listed, nearest
from configs.keys import misspelt
from configs.resolvers import ROOT
from configs.schema import Run
from configs.sweeping import sweeper_of, values_of
from configs.sweeping import words as sweep_words
from configs.validation import as_plain

OTHER_JOB = ("--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc", "--experimental-rerun")
OTHER_FILES = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
SHOWN = ("--cfg", "-c", "--info", "-i")  # the configuration is shown and nothing runs
WITH_VALUE = (*OTHER_FILES, *SHOWN, "--package", "-p")
ALONE = ("--resolve", "--run", "-r", "--multirun", "-m")


def prepared(arguments: Sequence[str]) -> list[str]:
    """train.py's arguments as Hydra gets them. ConfigError for what can be known to be wrong before anything runs.

    Of a sweep every value is looked at, with the first value of all others.
    """
    if is_other_job(arguments):
        return list(arguments)
    words = list(map(quoting.quoted, plain_words(arguments)))
    elsewhere = any(word.split("=")[0] in (*OTHER_FILES, "hydra.searchpath") for word in arguments)
    if not elsewhere:  # other files are not known here
        check_choices(words)
        if not any(word.split("=")[0] in SHOWN for word in arguments):
            check_keys(words)
            return marked(as_choices(arguments))
    return marked(arguments)


def is_other_job(arguments: Sequence[str]) -> bool:
    """Whether Hydra is asked for something else than a run: its help, a shell's completion."""
    return any(argument.split("=")[0] in OTHER_JOB for argument in arguments)


def plain_words(arguments: Sequence[str], example: str = "experiment=madv2_lcaam", options: bool = True) -> list[str]:
    """The words that are neither Hydra's options nor their values. ConfigError for one that is not `key=value`.

    example: a setting of this program, for the message. options: whether the program has Hydra's options.
    """
    words: list[str] = []
    given = list(arguments)
    while given:
        word = given.pop(0)
        following = given[0] if given and not given[0].startswith("-") else ""
        if word.startswith("-"):
            if options and word.split("=")[0] in WITH_VALUE:
                given = given[1:] if following and "=" not in word + following else given
            elif not options or word not in ALONE:
                raise ConfigError(without_dashes(word, following, example))
        elif word.startswith("=") or word == "" or (word.endswith("=") and following and "=" not in following):
            raise ConfigError(without_blanks(words, word, following))
        elif "=" not in word and not word.startswith("~"):
            if following.startswith("="):
                raise ConfigError(without_blanks([word], following, "".join(given[1:2])))
            raise ConfigError(f"{shlex.quote(word)} is not a setting; {setting_for(word, example)}")
        else:
            words.append(word)
    return words


def without_dashes(word: str, following: str, example: str) -> str:
    """`--experiment=x`, `--experiment x` -> experiment=x."""
    name, equals, value = word.lstrip("-").partition("=")
    value = value if equals else following
    if not name.replace("_", "").replace(".", "").replace("/", "").isalnum() or "=" in value:
        return f"{word}: unknown option; a setting is written key=value, such as {example}"
    written = f"{name}={shlex.quote(value) if value else '...'}"
    return f"{word}: settings have no dashes; write {written}"


def without_blanks(before: list[str], word: str, following: str) -> str:
    """`mask = lcaam`, `mask= lcaam`, `mask =lcaam` -> mask=lcaam."""
    key = before[-1] if word.startswith("=") and before else word.partition("=")[0]
    value = word.partition("=")[2] or following
    return f"leave out the blanks around '='; write {key or 'key'}={shlex.quote(value) if value else '...'}"


def setting_for(word: str, example: str) -> str:
    """What a word without a key may have been meant as: a choice of a group, a run's folder."""
    key = example.split("=")[0]
    if key not in GROUPS:
        return f"write {key}={shlex.quote(word)}"
    groups = [group for group in (key, *sorted(GROUPS)) if word in choices_of(group)]
    return f"write {groups[0]}={word}" if groups else f"a setting is written key=value, such as {example}"


def check_choices(words: Sequence[str]) -> None:
    """ConfigError for a choice of a group of configs/ that has no file: it names the nearest and all."""
    for override in map(parsed, words):
        group = override.key_or_group
        if group not in GROUPS or override.is_delete():
            continue
        known = choices_of(group)
        for choice in chosen(override):
            if isinstance(choice, str) and choice and choice not in known and "${" not in choice:
                raise ConfigError(
                    f"{group}={choice}: there is no such file in configs/{group}/{nearest(choice, known)} "
                    f"(choices: {listed(known)})"
                )


def check_keys(words: Sequence[str]) -> None:
    """ConfigError for misspelt keys and wrong values of the schema's fields (configs/keys.py)."""
    overrides = [one for one in map(parsed, [*chosen_by_sweep(words), *words]) if not one.is_hydra_override()]
    first: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for number, override in enumerate(overrides):
        if not override.is_sweep_override():
            first[str(number)] = override.input_line or ""
            continue
        if not override.is_discrete_sweep() or isinstance(override.value(), Glob):
            if override.key_or_group in GROUPS:
                return  # which files it finds only Hydra knows
            continue
        values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        first[str(number)] = values[0]
        others += [(str(number), value) for value in values[1:]]
    for number, value in [("", ""), *others]:
        variant = {**first, number: value} if number else first
        try:
            cfg = composed(*variant.values())
        except (HydraException, OmegaConfBaseException):
            return  # Hydra says it itself, with the names that it knows
        if problems := misspelt(cfg, as_plain(cfg), Run):
            raise ConfigError("\n".join(problems))


def chosen_by_sweep(words: Sequence[str]) -> list[str]:
    """The files that the sweep of a command line chooses for its first job: its keys are those of that job."""
    params = sweeper_of(chosen_sweep(words))["params"]
    files = sweep_words({key: value for key, value in params.items() if key in GROUPS})
    return [values[0] for values in values_of(files).values()]


def as_choices(arguments: Sequence[str]) -> list[str]:
    """`data.fraction=0.1` -> `data.fraction=choice(0.1)`, if it is a key that the chosen sweep goes through.

    Of a sweep with experiments of its own: a job has the keys of its experiment, but Hydra sets a single value in
    train.py's default experiment first, whose nodes may not have the key. Keys outside nodes, `seed`, all have.
    """
    name = chosen_sweep(arguments)
    keys = [key for key in of_sweep(name) if "." in key] if "experiment" in sweeper_of(name)["params"] else []

    def as_choice(argument: str) -> str:
        key, _, value = quoting.quoted(argument).partition("=")
        return argument if key not in keys or parsed(argument).is_sweep_override() else f"{key}=choice({value})"

    return list(map(as_choice, arguments))


def choices_of(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))


def parsed(word: str) -> Override:
    """Hydra's reading of one word. ConfigError for what it cannot read."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{shlex.quote(word)} cannot be read: {reason}. A text with such characters needs quotes "
                          f"of its own: {shlex.quote(quoted(word))}") from error  # fmt: skip


def quoted(word: str) -> str:
    """`name=a b(` -> `name="a b("`."""
    key, equals, value = word.partition("=")
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}{equals}"{text}"'


def chosen(override: Override) -> list:
    """Every value that an override gives a run, one after the other; a pattern such as glob(*) gives none."""
    value = override.value()
    if override.is_sweep_override():
        countable = override.is_discrete_sweep() and not isinstance(value, Glob)
        return list(override.sweep_iterator()) if countable else []
    return list(value) if isinstance(value, (list, tuple)) else [value]

"""Opens a finished run's config.yaml with the changes of a command line: `run=<folder> data.batch_size=8`."""

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import ConfigError, listed, nearest


def open_run(settings: DictConfig, arguments: list[str]) -> tuple[DictConfig, DictConfig, set[str]]:
    """Sorts `key=value` arguments into `settings` (keys it has) and changes to the saved configuration.

    Returns the settings, the changed configuration and the changes' keys (with their parents). Raises ConfigError where
    there is no run, or where an argument cannot be read. That a changed key exists is `validate`'s business.
    """
    own_keys = list(settings.keys())  # `in settings` says no for a key whose value is still missing
    values = _parse(arguments)
    changes = {key: value for key, value in values.items() if key not in own_keys}
    settings = OmegaConf.merge(settings, {key: value for key, value in values.items() if key in own_keys})
    if OmegaConf.is_missing(settings, "run"):
        raise ConfigError(f"run=<a run's folder, or a checkpoint in it> is missing; settings: {listed(own_keys)}")
    path = _config_of(Path(settings.run))
    cfg = OmegaConf.load(path)
    cfg.paths.run_dir = str(path.parent)  # the run may have been moved since
    for key, value in changes.items():
        if key.split(".")[0] not in cfg:
            raise ConfigError(f"{key}: unknown key{nearest(key, [*own_keys, *cfg])} (settings: {listed(own_keys)})")
        try:
            OmegaConf.update(cfg, key, value, force_add=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error
    parts = [key.split(".") for key in changes]
    return settings, cfg, {".".join(names[: i + 1]) for names in parts for i in range(len(names))}


def _parse(arguments: list[str]) -> dict:
    """Hydra's own grammar for values; only plain `key=value`, as a saved configuration has no groups and no sweeps."""
    values = {}
    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            raise ConfigError(f"'{argument}' is not key=value: {str(error).splitlines()[0]}") from error
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"'{argument}': only key=value is possible here")
        values[override.key_or_group] = override.value()
    return values


def _config_of(run: Path) -> Path:
    """The config.yaml of a run's folder, or of the run that a checkpoint lies in."""
    if not run.exists():
        raise ConfigError(f"run={run}: there is no such folder or file")
    folders = [run] if run.is_dir() else list(run.absolute().parents)
    path = next((folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()), None)
    if path is None:
        where = f"in {run}" if run.is_dir() else f"in a folder above {run}"
        raise ConfigError(f"run={run}: no config.yaml {where}; a run is logs/<experiment>/<scale>/seed<k>/<time>")
    return path

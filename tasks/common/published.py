"""The paper's figures, which are shown beside runs on the paper's own data and no others."""

from omegaconf import DictConfig


def own_data(cfg: DictConfig) -> bool:
    """Whether a run has the data that the paper's figures belong to, at the paper's scale."""
    return cfg.scale_name == "paper" and cfg.data.get("name") == cfg.get("paper_data")


def published(cfg: DictConfig) -> dict[str, str]:
    """The paper's figures by metric; none if the run's data are not the data that they belong to."""
    return dict(cfg.paper) if own_data(cfg) else {}

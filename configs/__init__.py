"""What a run is: the YAML files beside this one, and `validate(cfg)`, which says whether a composition makes sense.

    from configs.schema import validate
    validate(hydra.compose("train", ["experiment=madv2_lcaam", "scale=mini"]))

Importing this package registers the resolvers that the YAML files use.
"""

from configs import resolvers as resolvers

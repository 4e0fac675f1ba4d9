"""`pytest tests/properties --hypothesis-profile=thorough` draws forty times as many examples, at random."""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("thorough", max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])

"""`pytest tests/properties --hypothesis-profile=thorough` draws ten times as many examples, at random.

`--hypothesis-seed=N` fixes them; `unshrunk` does not look for the smallest counter-example.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("thorough", max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("unshrunk", settings.get_profile("thorough"), phases=[Phase.explicit, Phase.generate])

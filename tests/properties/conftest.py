"""`pytest tests/properties --hypothesis-profile=thorough` draws forty times as many examples, at random."""

from hypothesis import HealthCheck, settings

settings.register_profile("thorough", max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))

"""Settings of the whole test suite."""

from hypothesis import settings

# A shared machine may stop any example for seconds: how long one takes says nothing about correctness.
settings.register_profile("phasewatt", deadline=None)
settings.load_profile("phasewatt")

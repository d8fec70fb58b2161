"""Laws are checked without a deadline: a busy machine is slow and not wrong."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

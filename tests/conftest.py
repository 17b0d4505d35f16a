"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: pytest's own timeout is the only clock.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

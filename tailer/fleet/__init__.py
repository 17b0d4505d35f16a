"""Follows the changing set of objects of a group, thousands of them, of which few are looked at at a time.

`Fleet` drives one group, the `Governor` lets the requests of all groups through. docs/scheduling.md has the rules.
"""

from __future__ import annotations

from tailer.fleet.fleet import Fleet as Fleet
from tailer.fleet.governor import Governor as Governor

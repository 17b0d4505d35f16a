"""The reader under test is that of `tests/faults`, in both forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import form, server, tail

if TYPE_CHECKING:
    from tailer.oss.transport import Kind

__all__ = ["form", "server", "tail", "transport"]


@pytest.fixture
def transport() -> Kind:
    """One of them: none of these failures lies in HTTP."""
    return "direct"

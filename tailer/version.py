"""The version, where every floor can read it without importlib.metadata (40 ms)."""

__version__ = "0.1.0"

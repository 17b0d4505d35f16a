"""What the Dockerfile says of the images that it makes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

PATH = Path(__file__).parent.parent / "Dockerfile"
LINES = re.sub(r"\\\n\s*", "", PATH.read_text()).splitlines()


def of(instruction: str) -> list[str]:
    """What follows each such instruction."""
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


@dataclass(frozen=True)
class Image:
    """What a container gets from it, unless it is told otherwise."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    user: str = ""
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)


def images() -> dict[str, Image]:
    """All stages by their names."""
    found: dict[str, Image] = {}
    name = ""
    for line in LINES:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.split()
            found[name] = found.get(base, Image())
        elif word == "ENTRYPOINT":
            found[name] = replace(found[name], entrypoint=tuple(json.loads(rest)))
        elif word == "CMD":
            found[name] = replace(found[name], command=tuple(json.loads(rest)))
        elif word == "HEALTHCHECK":
            found[name] = replace(found[name], health=tuple(json.loads(rest.partition("CMD ")[2])))
        elif word == "USER":
            found[name] = replace(found[name], user=rest)
        elif word == "WORKDIR":
            found[name] = replace(found[name], folder=rest)
        elif word == "ENV":
            pairs = dict(pair.split("=", 1) for pair in rest.split())
            found[name] = replace(found[name], environment={**found[name].environment, **pairs})
    return found

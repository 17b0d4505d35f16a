"""There is no switch that lets a connection go on without a certificate that holds: not for a user, not in the code."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailer.cli import append, local, service
from tailer.cli import options as tail_options
from tailer.config import resolve_service
from tailer.consumer import ConsumerOptions
from tailer.oss.client import ServiceSettings
from tailer.oss.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PACKAGE = Path(__file__).parents[1] / "tailer"
SWITCH = re.compile(r"insecure|verify|skip.*cert|no.*check|trust|tls|ssl", re.I)

# What turns it off in `ssl`, in httpx and in pyreqwest.
HOLES = re.compile(
    r"CERT_NONE|CERT_OPTIONAL|check_hostname|verify_mode|_create_unverified_context|PROTOCOL_TLS|SSLContext\("
    r"|verify=(?!_ssl_context\(\))|danger_accept|accept_invalid|https?_only\(False"
)


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


@pytest.mark.parametrize("command", [tail_options, append, service, local], ids=lambda module: module.__name__)
def test_no_command_has_an_option_for_it(command: ModuleType) -> None:
    if command is tail_options:
        names = [name for option in tail_options.OPTIONS for name in option.names]
    else:
        names = list(options_of(command._parser()))
    assert len(names) > 5
    assert [name for name in names if SWITCH.search(name)] == []


def test_the_library_takes_no_argument_for_it() -> None:
    names = [
        *ConsumerOptions.__annotations__,
        *ServiceSettings.__dataclass_fields__,
        *resolve_service.__annotations__,
        *open_transport.__annotations__,
    ]
    assert not [name for name in names if SWITCH.search(name)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_line_of_the_code_turns_it_off(path: Path) -> None:
    code = ast.unparse(ast.parse(path.read_bytes()))
    assert not HOLES.findall(code)


def test_such_a_line_would_be_found() -> None:
    for line in (
        "context.check_hostname = False",
        "AsyncClient(verify=False)",
        "builder.danger_accept_invalid_certs(True)",
    ):
        assert HOLES.search(line)

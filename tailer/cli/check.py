"""`oss-tailer check`: all that is wrong with a configuration, and with --online whether what it names is there."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tailer.cli.messages import quote

if TYPE_CHECKING:
    import argparse

    from tailer.configfile import ServiceConfig

_FAILED = 1
_USAGE = 2


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    text = "say all that is wrong with the configuration of a service"
    command = commands.add_parser("check", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("config", metavar="CONFIG", help="the file, config.toml say")
    command.add_argument(
        "--online", action="store_true", help="ask, too, whether buckets, keys, permissions and sinks are good"
    )


def run(options: argparse.Namespace) -> int:
    """The exit status: 0 good, 1 something that it names is not, 2 there are mistakes in it."""
    from tailer.configfile import read_config

    name = options.config if options.config.isprintable() else quote(options.config)
    config, problems = read_config(options.config)
    for problem in problems:
        print(replace(problem, file=name), file=sys.stderr)
    if config is None:
        return _USAGE
    groups, sinks = _counted(len(config.groups), "group"), _counted(len(config.sinks), "sink")
    print(f"{name}: good: {groups}, {sinks}", flush=True)
    return asyncio.run(_print_findings(config)) if options.online else 0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


async def _print_findings(config: ServiceConfig) -> int:
    from tailer.cli.online import find

    findings = await find(config)
    for finding in findings:
        print(finding)
    return _FAILED if any(one.verdict == "failed" for one in findings) else 0

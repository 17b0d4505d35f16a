"""What both Python drivers share: JSON lines in, JSON lines out, and names that lead to this machine.

A line is ``{"do": VERB, "at": {…}, …}``; the answer is what the verb returns, or ``{"error": CODE, …}`` when the
SDK raised. Bodies travel as base64.
"""

import base64
import json
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

At = dict[str, Any]
"""Endpoint, addressing, signature, credentials and bucket of a request."""

Facts = dict[str, Any]
"""What is told of an answer."""


def serve(verbs: Mapping[str, Callable[..., Facts]], explain: Callable[[Exception], Facts | None]) -> None:
    """Answer every line of standard input. `explain` makes facts of an exception of the SDK, None of any other."""
    _resolve_here(".example")
    for line in sys.stdin:
        request = json.loads(line)
        verb = verbs[request.pop("do")]
        try:
            facts = verb(**request)
        except Exception as error:  # whatever the SDK raises is a fact to be judged by the test
            facts = explain(error) or {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(facts), flush=True)


def _resolve_here(suffix: str) -> None:
    """Virtual-hosted addresses need names, and no name server is asked for them."""
    ask = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if host and host.endswith(suffix) else host, *arguments, **options)

    socket.getaddrinfo = resolve


def packed(data: bytes) -> str:
    """Bytes as JSON text."""
    return base64.b64encode(data).decode()


def unpacked(text: str) -> bytes:
    """Bytes that were `packed`."""
    return base64.b64decode(text)


def number(text: str | None) -> int | None:
    """A header's number, None where there is none."""
    return None if text is None else int(text)

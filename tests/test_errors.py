"""The tree of errors: drawn as it is, one line each, and honest about what a retry may bring."""

from __future__ import annotations

import inspect
import re

import pytest

from tailer import errors
from tailer.errors import ServiceError, TailerError, without_frames

CLASSES = {
    name: one
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, TailerError) and one.__module__ == errors.__name__
}

RETRIABLE = {
    "Throttled",
    "ServiceUnavailable",
    "TransportError",
    "ConnectError",
    "RequestTimeout",
    "ConnectionLost",
    "ProtocolError",
    "AppendMisfits",
    "RangeIgnored",
    "SinkBusy",
    "CheckpointError",
}


def drawn() -> dict[str, str | None]:
    """Name to parent, as the module's docstring draws them."""
    tree: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:[ │]   )*)([├└]── )?([A-Z][A-Za-z]+)(?:  .*)?$", line)
        if match is not None:
            depth = len(match[1] + (match[2] or "")) // 4
            path[depth:] = [match[3]]
            tree[match[3]] = path[-2] if depth else None
    return tree


def make(cls: type[TailerError], message: str = "what happened", **more: object) -> TailerError:
    if issubclass(cls, ServiceError):
        return cls(message, status=503, **more)  # type: ignore[arg-type]
    return cls(message)


def test_the_drawing_shows_every_class_under_its_parent_and_no_other() -> None:
    actual = {name: one.__mro__[1].__name__ if one is not TailerError else None for name, one in CLASSES.items()}
    assert drawn() == actual


def test_a_class_has_one_parent_and_a_docstring() -> None:
    for one in CLASSES.values():
        assert len(one.__bases__) == 1
        assert inspect.getdoc(one)


def test_what_may_be_retried_is_decided_here() -> None:
    assert {name for name, one in CLASSES.items() if one.retriable} == RETRIABLE


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_message_is_one_line_whatever_the_service_wrote(cls: type[TailerError]) -> None:
    text = str(make(cls, "first\r\nsecond\n\n\tthird \x0b\x0c\x85\u2028 last"))
    assert len(text.splitlines()) == 1
    assert "first second third last" in text


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_hint_of_the_class_is_said_and_one_of_the_instance_replaces_it(cls: type[TailerError]) -> None:
    if cls.hint:
        assert str(make(cls)).endswith(f"({cls.hint})")
    own = cls("x", status=503, hint="do this") if issubclass(cls, ServiceError) else cls("x", hint="do this")
    assert str(own).endswith("(do this)")
    assert make(cls).hint == cls.hint, "an instance's hint does not stick to the class"


def test_a_refusal_says_code_message_status_ec_and_request_id() -> None:
    error = errors.AccessDenied(
        "You have no right", status=403, code="AccessDenied", ec="0003-00000001", request_id="5C3D9175B6FC201293AD"
    )
    assert str(error) == (
        "AccessDenied: You have no right [status 403, EC 0003-00000001, request id 5C3D9175B6FC201293AD]"
    )


def test_a_refusal_without_body_says_what_is_known() -> None:
    assert str(errors.ServiceError("", status=418)) == "HTTP error [status 418]"
    assert str(errors.ServiceError("", status=404, code="NoSuchKey")) == "NoSuchKey [status 404]"


def test_a_throttle_carries_the_pause_that_the_service_asked_for() -> None:
    assert errors.Throttled("slow down", status=503, retry_after=7.5).retry_after == 7.5
    assert errors.ConnectionLost("cut").retry_after is None


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_every_error_is_caught_as_the_root(cls: type[TailerError]) -> None:
    with pytest.raises(TailerError):
        raise make(cls)


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_an_error_that_is_kept_holds_no_frames_and_its_causes_hold_none() -> None:
    cause = _raised(OSError("why"))
    error = without_frames(_raised(errors.ConnectionLost("what"), cause))
    assert (error.__traceback__, error.__cause__, cause.__traceback__) == (None, cause, None)


def test_what_somebody_else_handles_meanwhile_keeps_its_frames() -> None:
    """A request may be made while an error of the caller's own is handled: that is no cause of ours."""
    try:
        inspect.getsource(len)
    except TypeError as error:
        handled = error
        kept = _raised(errors.ConnectionLost("what"))
        context = kept.__context__
        without_frames(kept)
    assert context is handled
    assert kept.__context__ is None
    assert handled.__traceback__ is not None


def test_errors_that_name_each_other_as_causes_are_no_endless_chain() -> None:
    """As where a client keeps one error, and raises it at each call."""
    first, second = errors.SinkBusy("first"), errors.SinkBusy("second")
    first.__cause__, second.__cause__ = second, first
    assert without_frames(first) is first

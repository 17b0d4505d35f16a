"""Everything that can be wrong: one line on stderr, the right exit status, nothing made up on stdout."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trustme

from tailer.local import AccessKey, Fault, running
from tests.cli.conftest import OssTail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "local-secret"


@pytest.fixture(autouse=True)
def _no_faults_left(oss_tail: OssTail) -> Iterator[None]:
    yield
    oss_tail.server.faults.clear()


@pytest.fixture(autouse=True, scope="module")
def _objects(oss_tail: OssTail) -> None:
    oss_tail.append("there", b"a\nb\n")


def _assert_one_line(stderr: str, *parts: str) -> None:
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("oss-tail: ")
    assert SECRET not in stderr
    for part in parts:
        assert part in stderr


class Case(NamedTuple):
    """A command line, what is different in its environment, and what becomes of it."""

    arguments: str
    status: int
    parts: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed


CASES = {
    "no such bucket": Case("oss://nosuchbucket/k", 1, ("oss://nosuchbucket/k", "NoSuchBucket", "request id")),
    "no such key": Case("oss://bucket/nope", 1, ("cannot open 'oss://bucket/nope' for reading: No such key",)),
    "no permission": Case("--no-sign-request oss://bucket/there", 1, ("AccessDenied", "request id", "access key")),
    "unknown key": Case("oss://bucket/there", 1, ("InvalidAccessKeyId",), {"OSS_ACCESS_KEY_ID": "nobody"}),
    "wrong secret": Case("oss://bucket/there", 1, ("SignatureDoesNotMatch",), {"OSS_ACCESS_KEY_SECRET": "wrong"}),
    "wrong region": Case("--region cn-beijing oss://bucket/there", 1, ("Invalid signing region",)),
    "other scheme": Case("s3://bucket/k", 2, ("s3://bucket/k", "oss://")),
    "no scheme": Case("app.log", 2, ("'app.log'", "oss://bucket/key")),
    "standard input": Case("-", 2, ("'-'",)),
    "no bucket": Case("oss:///k", 2, ("bucket",)),
    "no key": Case("--no-glob oss://bucket", 2, ("no object",)),
    "bad bucket": Case("oss://Bad_Bucket/k", 2, ("Bad_Bucket", "3 to 63")),
    "key too long": Case(f"oss://bucket/{'é' * 512}", 2, ("1024 bytes", "1023")),
    "key with a slash in front": Case("oss://bucket//k", 2, ("'/k'",)),
    "key with ..": Case("oss://bucket/a/../there", 2, ("'a/../there'",)),
    "key with .": Case("oss://bucket/./there", 2, ("'./there'",)),
    "URL with ..": Case("http://127.0.0.1:1/a/%2e%2e/there", 2, ("a/../there",)),
    "nothing matches": Case("oss://bucket/nope*", 1, ("cannot open 'oss://bucket/nope*'", "No object matches")),
    "endpoint unreachable": Case(
        "--endpoint http://127.0.0.1:1 oss://bucket/there", 1, ("oss://bucket/there", "check the endpoint")
    ),
    "endpoint that is none": Case("--endpoint ftp://x oss://bucket/k", 2, ("ftp://x",)),
    "region that is none": Case("--region cn_x oss://bucket/k", 2, ("region",)),
    "no endpoint": Case(
        "oss://bucket/k", 2, ("--region", "OSS_REGION", "oss-local"), {"OSS_ENDPOINT": "", "OSS_REGION": ""}
    ),
    "profile that is not there": Case("--profile nope oss://bucket/k", 2, (".ossutilconfig", "No such file")),
    "unreadable configuration": Case("--profile x oss://bucket/k", 2, ("/dev",), {"OSSUTIL_CONFIG_FILE": "/dev"}),
    "output is a folder": Case("-o /tmp oss://bucket/there", 1, ("'/tmp'", "is a directory")),
    "output below nothing": Case("-o /nowhere/x oss://bucket/there", 1, ("'/nowhere/x'", "No such file")),
    "metrics port that is none": Case("--metrics 99999999 oss://bucket/there", 2, ("'99999999'",)),
    "integrity that is none": Case("--integrity maybe oss://bucket/there", 2, ("'maybe'", "strict")),
    "poll that is none": Case("--poll post oss://bucket/there", 2, ("'post'",)),
    "from that is none": Case("--from middle oss://bucket/there", 2, ("'middle'",)),
    "from before the start": Case("--from -1 oss://bucket/there", 2, ("'-1'",)),
    "idle that is none": Case("--exit-idle soon oss://bucket/there", 2, ("'soon'",)),
    "mirror of a part": Case("-n 5 -o x oss://bucket/there", 2, ("--output", "-n")),
    "mirror as JSON": Case("--json -o x oss://bucket/there", 2, ("--json",)),
    "mirror of many in one": Case("-o x oss://bucket/there oss://bucket/b", 2, ("'x'", "/")),
    "mirror of a pattern in one": Case("-o x oss://bucket/*", 2, ("'x'", "/")),
    "mirror into nothing": Case("--output= oss://bucket/there", 2, ("--output",)),
    "no operand": Case("-n 5", 2, ("missing operand",)),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(oss_tail: OssTail, name: str) -> None:
    """Nothing on stdout, the status, one line that names what is wrong; a usage error points to --help."""
    case = CASES[name]
    arguments = [argument.strip("'") for argument in case.arguments.split(" ")]
    status, stdout, stderr = oss_tail.here(arguments, case.environment)
    _assert_one_line(stderr.removesuffix("Try 'oss-tail --help' for more information.\n"), *case.parts)
    assert (status, stdout) == (case.status, b"")


ABSURD = [
    *("-n 99999999999999999999999999", "-c 99999999999999999999999999", "-n 1Q", "-c 999R", "-n +1", "-c +1"),
    f"-n {'9' * 5000}",
]


@pytest.mark.parametrize("amount", ABSURD)
def test_more_than_there_is(oss_tail: OssTail, amount: str) -> None:
    """Where GNU tail 9.1 gives up on a number, it means all."""
    assert oss_tail.here([*amount.split(), "oss://bucket/there"]) == (0, b"a\nb\n", "")


@pytest.mark.parametrize("amount", ["-n +99999999999999999999999999", "-c +1Q", "--from 99999999999999999999"])
def test_beyond_the_end(oss_tail: OssTail, amount: str) -> None:
    assert oss_tail.here([*amount.split(), "oss://bucket/there"]) == (0, b"", "")


KEYS = ["a//b", "a+b", "a%2Fb", "a%b", "a b", "a\nb", "a?b", "a#b", "a&b=c", "é/ü", "...", "a\\b", "漢" * 341, "x/..y"]


@pytest.mark.parametrize("key", KEYS)
def test_odd_keys_name_exactly_one_object(oss_tail: OssTail, key: str) -> None:
    """What could be taken for another key is read as it is, whole and in the last lines."""
    oss_tail.append(key, key.encode() + b"\n")
    assert oss_tail.here(["--no-glob", f"oss://bucket/{key}"]) == (0, key.encode() + b"\n", "")
    assert oss_tail.here(["--no-glob", "-c", "+1", f"oss://bucket/{key}"]) == (0, key.encode() + b"\n", "")


FAULTS = {
    "malformed XML": (Fault("malformed-xml", operation="GetObject", status=403), 1, ("oss://bucket/there",)),
    "HTML from a proxy": (Fault("html", status=403), 1, ("oss://bucket/there", "403")),
    "HTML with 200": (Fault("html", status=200), 1, ("oss://bucket/there",)),
    "200 to a ranged GET": (Fault("ignore-range", operation="GetObject"), 1, ("oss://bucket/there",)),
    "Content-Range that lies": (Fault("shift-range", operation="GetObject"), 1, ("oss://bucket/there",)),
    "no CRC": (Fault("drop-header"), 3, ("oss://bucket/there", "CRC-64", "--integrity off")),
    "no permission": (
        Fault("status", status=403, code="AccessDenied", message="You have no right to access this object."),
        1,
        ("AccessDenied", "You have no right", "request id"),
    ),
    "overloaded": (Fault("status", status=503), 1, ("ServiceUnavailable",)),
    "in the middle of the body": (Fault("cut", operation="GetObject", at=1), 1, ("oss://bucket/there",)),
    "a CRC that never fits": (Fault("flip-crc"), 3, ("CRC-64", "oss://bucket/there")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_service_that_goes_wrong(oss_tail: OssTail, name: str) -> None:
    """For as long as it goes wrong: one line, the status, and not one byte that is not proven to be right."""
    fault, expected, parts = FAULTS[name]
    oss_tail.server.faults.add(fault)
    status, stdout, stderr = oss_tail.here(["oss://bucket/there"])
    _assert_one_line(stderr, *parts)
    assert (status, stdout) == (expected, b"")


def test_missing_crc_can_be_put_up_with(oss_tail: OssTail) -> None:
    """--integrity off goes on, and says once that nothing is proven."""
    oss_tail.append("no-crc", b"a\n" * 1000)
    oss_tail.server.faults.add(Fault("drop-header"))
    status, stdout, stderr = oss_tail.here(["-c", "+1", "--integrity", "off", "oss://bucket/no-crc"])
    _assert_one_line(stderr, "no CRC-64", "oss://bucket/no-crc")
    assert (status, stdout) == (0, b"a\n" * 1000)


def test_clock_off_by_a_day(oss_tail: OssTail) -> None:
    """It is learnt from the refusal, so that nobody has to know."""
    oss_tail.server.faults.add(Fault("skew", by=86400))
    assert oss_tail.here(["oss://bucket/there"]) == (0, b"a\nb\n", "")


def test_bucket_that_lives_elsewhere(tmp_path: Path) -> None:
    """The endpoint that the service names is passed on."""
    with running(["here"], elsewhere={"there": "oss-cn-beijing.aliyuncs.com"}) as server:
        status, stdout, stderr = OssTail(server, tmp_path).here(["oss://there/k"])
    _assert_one_line(stderr, "oss-cn-beijing.aliyuncs.com", "oss://there/k")
    assert (status, stdout) == (1, b"")


def test_expired_token(tmp_path: Path) -> None:
    with running(["bucket"], access_keys=[AccessKey("sts", SECRET, token="token", expires=1.0)]) as server:
        status, stdout, stderr = OssTail(server, tmp_path).here(["oss://bucket/k"])
    _assert_one_line(stderr, "SecurityTokenExpired")
    assert (status, stdout) == (1, b"")


@contextmanager
def _tls_server() -> Iterator[str]:
    """A server whose certificate nobody trusts; it answers nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_certificate_that_does_not_hold(oss_tail: OssTail) -> None:
    """Never waved through, never tried again."""
    with _tls_server() as endpoint:
        status, stdout, stderr = oss_tail.here(["--endpoint", endpoint, "oss://bucket/there"])
    _assert_one_line(stderr, "oss://bucket/there", "SSL_CERT_FILE")
    assert (status, stdout) == (1, b"")


def test_the_others_are_still_read(oss_tail: OssTail) -> None:
    """An object that cannot be read costs the status, not the other objects."""
    oss_tail.server.faults.add(Fault("status", key="there", status=403, code="AccessDenied", message="No."))
    oss_tail.append("fine", b"fine\n")
    status, stdout, stderr = oss_tail.here(["-q", "oss://bucket/there", "oss://bucket/fine", "oss://bucket/nope"])
    assert (status, stdout, stderr.count("\n")) == (1, b"fine\n", 2)


def test_presigned_signature_is_never_shown(oss_tail: OssTail) -> None:
    url = f"{oss_tail.server.endpoint}/bucket/there?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-signature=5ec2e7"
    status, stdout, stderr = oss_tail.here(["--debug", url])
    assert (status, stdout) == (1, b"")
    assert "/bucket/there" in stderr
    assert "5ec2e7" not in stderr


def test_debug_shows_where(oss_tail: OssTail) -> None:
    """--debug, and nothing else, shows a traceback; no secret in it."""
    plain = oss_tail.here(["oss://nosuchbucket/k"])
    shown = oss_tail.here(["--debug", "oss://nosuchbucket/k"])
    assert "Traceback" not in plain.stderr
    assert "Traceback" in shown.stderr
    assert SECRET not in shown.stderr
    assert (plain.status, shown.status) == (1, 1)


def test_mistake_of_our_own(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an error that nobody thought of is one line."""
    monkeypatch.setattr("tailer.oss.address.parse_address", lambda *_, **__: 1 // 0)
    status, stdout, stderr = oss_tail.here(["oss://bucket/there"])
    _assert_one_line(stderr, "ZeroDivisionError", "--debug")
    assert (status, stdout) == (1, b"")

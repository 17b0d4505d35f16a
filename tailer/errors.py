"""Everything that can go wrong, in one tree.

    TailerError
    ├── UsageError                     the caller's input is wrong: nothing was asked of the service
    │   ├── AddressError               not an object's address, or one that no request can name exactly
    │   └── ConfigError                a configuration file or profile that cannot be read or used
    │       └── ConfigFileError        mistakes in the file of `oss-tailer run`: `problems`, a line for each
    ├── ServiceError                   the service answered, with a refusal: status, code, message, ec, request_id
    │   ├── NotFound
    │   │   ├── ObjectNotFound         NoSuchKey: not there yet, or deleted
    │   │   └── BucketNotFound         NoSuchBucket
    │   ├── AccessDenied               the key is known, the permission is missing
    │   ├── CredentialsRefused         unknown key, wrong secret
    │   │   └── CredentialsExpired     a security token that is no longer good
    │   ├── ClockSkewed                the request's date is more than 15 minutes off; `server_time`
    │   ├── WrongEndpoint              the bucket lives elsewhere; `endpoint` says where, when the service did
    │   ├── RangeNotSatisfiable        416: nothing at or behind this offset
    │   ├── PreconditionFailed         412
    │   ├── PositionMismatch           an append whose position is not the length; `next_position`
    │   ├── NotAppendable              the object is of another type
    │   ├── ObjectSealed               the object takes no more bytes
    │   ├── Throttled                  429, or 503 with a code that means "slower"; `retry_after`
    │   └── ServiceUnavailable         any other 5xx, 400 RequestTimeout
    ├── TransportError                 no answer, or half of one
    │   ├── ConnectError               name not resolved, connection refused
    │   ├── TlsError                   the certificate does not hold
    │   ├── RequestTimeout             nothing came for too long
    │   └── ConnectionLost             the connection broke, or the body was shorter than announced
    ├── ProtocolError                  an answer that no OSS gives: a proxy, a bug, an attack
    │   ├── AppendMisfits              an append answered with a length or CRC-64 that the bytes do not have
    │   └── RangeIgnored               200 to a ranged GET, or a Content-Range that is not the one asked for
    ├── IntegrityError                 the bytes read are not the bytes that the service vouches for
    │   ├── ChainBroken                two readings of the same bytes, and the CRC-64 stated for them is another
    │   ├── ObjectReplaced             the followed object is gone or another one stands in its place
    │   ├── PositionConflict           an object is not as its writer left it: `ours`, `theirs`
    │   └── CrcMissing                 the service states no CRC-64, so nothing can be proven
    ├── ObjectFull                     the append would make the object longer than an appendable one can be
    ├── SourceLost                     what comes next in a followed local file is not to be found
    ├── SinkError                      the receiving side did not take a batch
    │   ├── SinkBusy                   it did not take it now, and may later: a full disk, a 503, a failed command
    │   └── OutputClosed               the reader of a pipe went away: the end, and not worth a word
    └── CheckpointError                a checkpoint could not be read or kept, or its group has another owner

`retriable` says whether the same request may succeed later without anybody changing anything;
`retry_after` is the least number of seconds to wait first, when the service named one. Both are
attributes, so that one schedule can act on every error alike. ``str(error)`` is one line without secrets.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class TailerError(Exception):
    """Root of the tree. ``str()`` is one line: what happened, and what to do about it where that is known."""

    retriable: ClassVar[bool] = False
    hint: str | None = None
    retry_after: float | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        message = " ".join(str(self.args[0]).split())
        return f"{message} ({self.hint})" if self.hint else message


class UsageError(TailerError):
    """The caller's input is wrong."""


class AddressError(UsageError):
    """Not the address of an object, or of one that a request cannot name exactly."""


class ConfigError(UsageError):
    """A configuration file or a profile that cannot be read or used."""


class ConfigFileError(ConfigError):
    """Mistakes in a configuration file. `problems` are all of them, a line each; ``str()`` joins them into one."""

    def __init__(self, *problems: str, hint: str | None = None) -> None:
        super().__init__("; ".join(problems), hint=hint)
        self.problems = problems


class ServiceError(TailerError):
    """The service refused. Branch on `code`; `ec` is for people and the service's support.

    (OSS documentation, "Error responses": EC can change, Code does not.)
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        ec: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.ec = ec
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        fields = [("EC", self.ec), ("request id", self.request_id)]
        facts = "".join(f", {name} {value}" for name, value in fields if value)
        what = f"{self.code or 'HTTP error'}: {self.args[0]}" if self.args[0] else f"{self.code or 'HTTP error'}"
        line = " ".join(f"{what} [status {self.status}{facts}]".split())
        return f"{line} ({self.hint})" if self.hint else line


class NotFound(ServiceError):
    """404."""


class ObjectNotFound(NotFound):
    """NoSuchKey: the object is not there yet, or was deleted."""


class BucketNotFound(NotFound):
    """NoSuchBucket."""

    hint = "check the bucket's name and the region"


class AccessDenied(ServiceError):
    """403: the request was understood and is not allowed."""


class CredentialsRefused(ServiceError):
    """403: the access key is unknown, or the signature was made with another secret."""

    hint = "check OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"


class CredentialsExpired(CredentialsRefused):
    """403: the security token is no longer good; fresh credentials may be."""

    hint = "get a new security token"


class ClockSkewed(ServiceError):
    """403 RequestTimeTooSkewed. `server_time` is the service's clock, in seconds since 1970, if it said."""

    hint = "set this machine's clock"
    server_time: float | None = None


class WrongEndpoint(ServiceError):
    """The bucket is served elsewhere. `endpoint` is the host that the service named, if it did."""

    endpoint: str | None = None


class RangeNotSatisfiable(ServiceError):
    """416: the object has no byte at the first offset asked for."""


class PreconditionFailed(ServiceError):
    """412: an If-… condition did not hold."""


class PositionMismatch(ServiceError):
    """409 PositionNotEqualToLength. `next_position` is the object's length in bytes, as the service said."""

    next_position: int | None = None


class NotAppendable(ServiceError):
    """409 ObjectNotAppendable: the object was not made by AppendObject."""


class ObjectSealed(ServiceError):
    """400 AppendSealedObjectNotAllowed: the object takes no more bytes."""


class Throttled(ServiceError):
    """429 or 503: too many requests or too many bytes."""

    retriable = True


class ServiceUnavailable(ServiceError):
    """The service failed; the request may succeed later."""

    retriable = True


class TransportError(TailerError):
    """No answer, or half of one."""

    retriable = True


class ConnectError(TransportError):
    """The endpoint could not be reached."""

    hint = "check the endpoint and the network"


class TlsError(TransportError):
    """The endpoint's certificate does not hold. Never retried, never waved through."""

    retriable = False
    hint = "for a private CA set SSL_CERT_FILE"


class RequestTimeout(TransportError):
    """Nothing came for too long."""


class ConnectionLost(TransportError):
    """The connection broke, or a body ended before its announced length."""


class ProtocolError(TailerError):
    """An answer that no OSS gives. It may be gone with the next answer, so it is tried again, a few times."""

    retriable = True
    hint = "is something between you and the service?"


class RangeIgnored(ProtocolError):
    """A ranged GET was not answered by exactly that range; its body was not used."""


class AppendMisfits(ProtocolError):
    """A 200 to an append with another length or CRC-64 than the object should have now."""


class IntegrityError(TailerError):
    """The bytes read are not the ones that the service vouches for."""


class ChainBroken(IntegrityError):
    """Read twice, and the CRC-64 that the service states is another one."""


class ObjectReplaced(IntegrityError):
    """The object that was followed is gone, or another stands in its place."""


class PositionConflict(IntegrityError):
    """The object is not as its writer left it: another writer added to it, replaced it or deleted it.

    `ours` is where the writer left it, `theirs` how it was found: length in bytes and CRC-64 of all of it.
    """

    ours: tuple[int, int | None] = (0, None)
    theirs: tuple[int, int | None] = (0, None)


class CrcMissing(IntegrityError):
    """The service states no CRC-64 for this object."""

    hint = "--integrity off follows it unproven"


class ObjectFull(TailerError):
    """An append that was not sent: the object would be longer than an appendable one can be."""


class SourceLost(TailerError):
    """A followed local file was rotated away, and what comes next of it is not to be found."""


class SinkError(TailerError):
    """The receiving side did not take a batch."""


class SinkBusy(SinkError):
    """The receiving side did not take a batch now; the same batch may be handed to it again."""

    retriable = True


class OutputClosed(SinkError):
    """The reader of a pipe went away."""


class CheckpointError(TailerError):
    """A checkpoint could not be read or kept (a full disk), or another process owns its group."""

    retriable = True


def without_frames(error: _Error) -> _Error:
    """`error`, to be kept and not raised: its traceback and those of its causes are let go, and what was being handled.

    A traceback holds each frame that the error passed through, and these what was in hand there: often a window, or
    whoever keeps the error, which then only the cyclic garbage collector finds.
    """
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = link.__context__ = None  # the latter may be somebody else's, who still handles it
        link = link.__cause__
    return error

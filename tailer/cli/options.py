"""What `oss-tail` may be asked: the options, their values checked, and the help text.

Nothing heavy is imported here, so that ``--help``, ``--version`` and every usage error are instant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tailer.cli.getopt import Option, read
from tailer.errors import UsageError
from tailer.sinks.fsync import NEVER, Fsync, parse_fsync, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

_GNU = "Options of GNU tail"
_OSS = "Options of oss-tail"

OPTIONS: tuple[Option, ...] = (
    Option("c", ("bytes",), "[+]NUM", _GNU, "output the last NUM bytes; with +NUM all from byte NUM on"),
    Option("f", ("follow",), "{descriptor|name}", _GNU,
           "output what is appended as the object grows; -f, --follow and --follow=descriptor follow this very "
           "object and end when it is replaced, --follow=name goes on with the new one", optional=True),
    Option("F", (), None, _GNU, "the same as --follow=name --retry"),
    Option("n", ("lines",), "[+]NUM", _GNU,
           "output the last NUM lines, instead of the last 10; with +NUM everything from line NUM on"),
    Option("", ("max-unchanged-stats",), "N", _GNU,
           "accepted and without effect: every poll asks for the name anew"),
    Option("", ("pid",), "PID", _GNU,
           "with -f, end after a last look once process PID is dead; given several times, once all of them are"),
    Option("q", ("quiet", "silent"), None, _GNU, "never output headers that name the objects"),
    Option("", ("retry",), None, _GNU, "with -f, wait for an object that is not there"),
    Option("s", ("sleep-interval",), "SECONDS", _GNU,
           "with -f, the shortest time between two polls (default 1.0, least 0.01); after half a minute of quiet "
           "an object is polled less and less, down to a fifth as often"),
    Option("v", ("verbose",), None, _GNU, "always output headers that name the objects"),
    Option("z", ("zero-terminated",), None, _GNU, "lines end with NUL, not newline"),
    Option("", ("help",), None, _GNU, "display this help and exit"),
    Option("", ("version",), None, _GNU, "output version information and exit"),
    Option("", ("from",), "{start|end|OFFSET}", _OSS,
           "begin there instead of at the last lines; OFFSET is in bytes, from 0"),
    Option("", ("once",), None, _OSS, "read to the present end and exit, whatever -f says"),
    Option("", ("exit-idle",), "SECONDS", _OSS, "with -f, end when nothing new came for so long"),
    Option("o", ("output",), "PATH", _OSS,
           "mirror the object into the file PATH, or every object into the folder PATH/; a file that is there "
           "is checked and continued"),
    Option("", ("fsync",), "{never|close|batch|TIME,SIZE}", _OSS,
           "with -o, force what was written to the disk: never (default), at the end, after every batch, or at the "
           "latest after a TIME as 5s or a SIZE as 64M, or both"),
    Option("", ("rotate-size",), "SIZE", _OSS,
           "with -o, mirror each object into segments of at most SIZE bytes (as 64M), named as its file, a dot and "
           "the offset of their first byte"),
    Option("", ("keep-generations",), None, _OSS,
           "with -o, keep the file of an object that was replaced as PATH%g0, of the next one as PATH%g1, and so on"),
    Option("", ("exec",), "COMMAND", _OSS,
           "run COMMAND by sh for each batch of lines, which it gets on standard input; when it fails, follow "
           "tries the same lines again"),
    Option("", ("exec-keys",), None, _OSS,
           "with --exec, leave the access keys (OSS_ACCESS_KEY_ID and its like) in the environment of COMMAND, for "
           "one that uses OSS itself"),
    Option("", ("json",), None, _OSS, "print one JSON object per line: every record, and every event"),
    Option("", ("show-nonprinting",), None, _OSS,
           "show control characters, and bytes that are not UTF-8, in ^ and M- notation, as cat -v does; tabs, "
           "newlines and other UTF-8 text stay as they are"),
    Option("", ("checkpoint",), "FILE", _OSS,
           "note in FILE how far each object was output, and go on from there the next time; where FILE knows "
           "nothing of an object, begin where -n, -c or --from say"),
    Option("", ("group",), "NAME", _OSS,
           "with --checkpoint, who reads: every group has its own place in an object (default: default)"),
    Option("", ("integrity",), "{chain|full|strict|off}", _OSS,
           "chain: check every byte against the object's CRC-64, and stop when it does not fit (default); full: the "
           "same, and read what lies before the first byte output as well, afterwards, to prove that too; strict: "
           "output nothing that is not proven, reading from byte 0 to prove it; off: do not check"),
    Option("", ("spool-bytes",), "SIZE", _OSS,
           "with --integrity strict, keep at most SIZE unproven bytes on disk (default 1G); those beyond it are read "
           "twice"),
    Option("", ("poll",), "{head|get}", _OSS,
           "look for news with HEAD (default), or with a ranged GET alone"),
    Option("", ("progress",), None, _OSS,
           "show the progress of long reads on standard error even if it is no terminal"),
    Option("", ("no-progress",), None, _OSS, "never show it"),
    Option("", ("metrics",), "[HOST:]PORT", _OSS,
           "serve Prometheus metrics at http://HOST:PORT/metrics (HOST: 127.0.0.1)"),
    Option("", ("no-glob",), None, _OSS, "take *, ?, [ and a final / in addresses literally"),
    Option("", ("endpoint",), "URL", _OSS, "the service's address (default: from the region)"),
    Option("", ("region",), "REGION", _OSS, "such as cn-hangzhou"),
    Option("", ("profile",), "NAME", _OSS, "the section of the configuration file to use"),
    Option("", ("no-sign-request",), None, _OSS, "use no credentials: for public objects"),
    Option("", ("debug",), None, _OSS, "say more on standard error: every event, and where an error came from"),
)  # fmt: skip

Headers = Literal["many", "always", "never"]


@dataclass(frozen=True, slots=True)
class Amount:
    """What to output first: the last `count` lines or bytes, or, `from_start`, all from the `count`-th on (from 1)."""

    count: int = 10
    lines: bool = True
    from_start: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """A command line of `oss-tail`, read and checked. Times in seconds; None is "not said".

    `amount_given` tells a user's -n, -c or --from from the default; `warnings` are lines for stderr.
    """

    addresses: tuple[str, ...] = ()
    amount: Amount = field(default_factory=Amount)
    amount_given: bool = False
    follow: Literal["no", "descriptor", "name"] = "no"
    retry: bool = False
    interval: float = 1.0
    pids: tuple[int, ...] = ()
    headers: Headers = "many"
    zero: bool = False
    show: Literal["", "help", "version"] = ""
    once: bool = False
    exit_idle: float | None = None
    output: str | None = None
    fsync: Fsync = NEVER
    keep_generations: bool = False
    rotate_size: int | None = None
    spool_bytes: int | None = None
    exec: str | None = None
    exec_keys: bool = False
    json: bool = False
    show_nonprinting: bool = False
    checkpoint: str | None = None
    group: str | None = None
    integrity: Literal["chain", "full", "strict", "off"] = "chain"
    poll: Literal["head", "get"] = "head"
    progress: bool | None = None
    metrics: str | None = None
    glob: bool = True
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    sign: bool = True
    debug: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def delimiter(self) -> bytes:
        """What ends a line."""
        return b"\0" if self.zero else b"\n"

    @property
    def by_record(self) -> bool:
        """Whoever gets the output wants whole lines at a time, and to know where they stand."""
        return self.json or self.exec is not None


def parse(arguments: Sequence[str]) -> Options:
    """The options that `arguments` (without the command's name) ask for. Raises UsageError."""
    rest, options = _obsolete(arguments)
    for name, value in read(rest, OPTIONS):
        options = _apply(options, name, value)
        if options.show:
            return options
    return _settled(options)


def _apply(options: Options, name: str, value: str | None) -> Options:
    """`options` after one more option or operand."""
    if name == "":
        return replace(options, addresses=(*options.addresses, value or ""))
    if value is None:
        return replace(options, **_FLAGS[name])
    if name in ("lines", "bytes"):
        return _with_amount(options, _amount(value, lines=name == "lines", before=options.amount))
    if name == "from":
        return _with_amount(options, _from(value))
    if name == "pid":
        return replace(options, pids=(*options.pids, *_pid(value)))
    if name == "max-unchanged-stats":
        _whole_number(value, "maximum number of unchanged stats between opens")
        return options
    if name in ("sleep-interval", "exit-idle"):
        field_name = "interval" if name == "sleep-interval" else "exit_idle"
        return _with(options, field_name, _seconds(value))
    if name == "fsync":
        return _with(options, name, parse_fsync(value))
    if name == "rotate-size":
        return _with(options, "rotate_size", parse_size(value, "--rotate-size"))
    if name == "spool-bytes":
        return _with(options, "spool_bytes", parse_size(value, "--spool-bytes"))
    if name in _CHOICES:
        return _with(options, name, _choice(value, _CHOICES[name], f"--{name}"))
    return _with(options, name, value)


def _with(options: Options, field_name: str, value: Any) -> Options:
    return replace(options, **{field_name: value})


_FLAGS: dict[str, dict[str, Any]] = {
    "follow": {"follow": "descriptor"},
    "F": {"follow": "name", "retry": True},
    "retry": {"retry": True},
    "quiet": {"headers": "never"},
    "verbose": {"headers": "always"},
    "zero-terminated": {"zero": True},
    "help": {"show": "help"},
    "version": {"show": "version"},
    "once": {"once": True},
    "keep-generations": {"keep_generations": True},
    "exec-keys": {"exec_keys": True},
    "json": {"json": True},
    "show-nonprinting": {"show_nonprinting": True},
    "progress": {"progress": True},
    "no-progress": {"progress": False},
    "no-glob": {"glob": False},
    "no-sign-request": {"sign": False},
    "debug": {"debug": True},
}

_CHOICES = {
    "follow": ("descriptor", "name"),
    "integrity": ("chain", "full", "strict", "off"),
    "poll": ("head", "get"),
}


def _with_amount(options: Options, amount: Amount) -> Options:
    return replace(options, amount=amount, amount_given=True)


def _settled(options: Options) -> Options:
    """The whole line seen: what contradicts itself is refused, what has no effect is warned of."""
    if not options.addresses:
        raise UsageError("missing operand: which object? (oss://BUCKET/KEY)")
    if options.output is not None:
        _check_output(options)
    elif options.fsync != NEVER or options.keep_generations or options.rotate_size is not None:
        name = "--rotate-size" if options.rotate_size is not None else "--fsync"
        name = "--keep-generations" if options.keep_generations else name
        raise UsageError(f"{name} needs --output PATH: it is about the file of a mirror")
    _check_checkpoint(options)
    _check_exec(options)
    _check_shown(options)
    if options.once:
        options = replace(options, follow="no", retry=False, pids=())
    return replace(options, warnings=tuple(_warnings(options)))


def _check_output(options: Options) -> None:
    if not options.output:
        raise UsageError("option '--output' needs a path")
    for given, name in ((options.json, "--json"), (options.amount_given, "-n, -c and --from")):
        if given:
            raise UsageError(
                f"--output mirrors the object as it is, from its first byte: {name} cannot be combined with it"
            )


def _check_checkpoint(options: Options) -> None:
    if options.checkpoint is None:
        if options.group is not None:
            raise UsageError("--group needs --checkpoint FILE: where the group's places are kept")
    elif not options.checkpoint:
        raise UsageError("option '--checkpoint' needs a path")
    elif options.output is not None:
        raise UsageError("a mirror is its own checkpoint: --output goes on where its file ends, without --checkpoint")


def _check_exec(options: Options) -> None:
    if options.exec is None:
        if options.exec_keys:
            raise UsageError("--exec-keys needs --exec COMMAND: it is about the command's environment")
        return
    if not options.exec.strip():
        raise UsageError("option '--exec' needs a command")
    for given, name in ((options.json, "--json"), (options.output is not None, "--output")):
        if given:
            raise UsageError(f"--exec gives the lines to a command: {name} cannot be combined with it")


def _check_shown(options: Options) -> None:
    """It is for eyes: whoever takes the bytes to work with gets the bytes."""
    for given, name in (
        (options.json, "--json"),
        (options.output is not None, "--output"),
        (options.exec is not None, "--exec"),
        (options.checkpoint is not None, "--checkpoint"),
    ):
        if options.show_nonprinting and given:
            raise UsageError(f"--show-nonprinting is for people to look at: {name} cannot be combined with it")


def _warnings(options: Options) -> list[str]:
    """GNU tail's own words."""
    follows = options.follow != "no"
    warnings = []
    if options.retry and not follows:
        warnings.append("warning: --retry ignored; --retry is useful only when following")
    if options.retry and options.follow == "descriptor":
        warnings.append("warning: --retry only effective for the initial open")
    if options.pids and not follows:
        warnings.append("warning: PID ignored; --pid=PID is useful only when following")
    return warnings


# --- values

_COUNT = re.compile(r"[ \t\n\v\f\r]*\+?([0-9]+)(b|[kKmMGTPEZYRQ](?:iB|B|D)?)?|(b|[kKmMGTPEZYRQ](?:iB|B|D)?)")
_SECONDS = re.compile(
    r"[ \t\n\v\f\r]*[+-]?(?:inf(?:inity)?|0x[0-9a-f.]+(?:p[+-]?[0-9]+)?|[0-9.]+(?:e[+-]?[0-9]+)?)", re.I
)
_POWERS = {letter: power for power, letter in enumerate("KMGTPEZYRQ", start=1)}

# More bytes than any object has. Beyond it a count means "all", so no number of digits is too many.
_ALL = 2**64
_LONGEST = 365 * 24 * 3600.0
_LEAST_INTERVAL = 0.01


def _amount(text: str, *, lines: bool, before: Amount) -> Amount:
    """The value of -n or -c. As with GNU tail, a ``+`` in an earlier one stays in force for the later ones."""
    from_start = text.startswith("+")
    count = _count(text[1:] if text.startswith("-") else text)
    if count is None:
        raise UsageError(f"invalid number of {'lines' if lines else 'bytes'}: {_shown(text.removeprefix('-'))}")
    return Amount(count, lines, from_start or before.from_start)


def _count(text: str) -> int | None:
    """NUM with a multiplier suffix; a suffix alone is one of it. None when it is not that."""
    match = _COUNT.fullmatch(text)
    if match is None:
        return None
    digits, suffix, alone = match.groups()
    return min(_ALL, _digits(digits or "1") * _multiplier(suffix or alone))


def _digits(text: str) -> int:
    """int() refuses thousands of digits; so many mean "all" anyway."""
    significant = text.lstrip("0") or "0"
    return int(significant) if len(significant) <= 20 else _ALL


def _multiplier(suffix: str | None) -> int:
    """``b`` 512, ``kB`` 1000, ``K`` and ``KiB`` 1024, and so on up to ``Q``."""
    if not suffix:
        return 1
    if suffix == "b":
        return 512
    base = 1000 if suffix[1:] in ("B", "D") else 1024
    return int(base ** _POWERS[suffix[0].upper()])


def _from(text: str) -> Amount:
    if text == "start":
        return Amount(1, lines=False, from_start=True)
    if text == "end":
        return Amount(0, lines=False)
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"invalid argument {_shown(text)} for '--from': start, end or an offset in bytes")
    return Amount(_digits(text) + 1, lines=False, from_start=True)


def _whole_number(text: str, what: str) -> int:
    match = re.fullmatch(r"[ \t\n\v\f\r]*\+?([0-9]+)", text)
    if match is None:
        raise UsageError(f"invalid {what}: {_shown(text)}")
    return _digits(match[1])


def _pid(text: str) -> tuple[int, ...]:
    """As with GNU tail, 0 is no process. (POSIX: a pid_t; 2**31 - 1 is the largest of any system in use.)"""
    pid = _whole_number(text, "PID")
    if pid >= 2**31:
        raise UsageError(f"invalid PID: {_shown(text)}: Value too large for defined data type")
    return (pid,) if pid else ()


def _seconds(text: str) -> float:
    """What C's strtod takes, not negative; at most a year, at least what does not spin."""
    try:
        parse_float = float.fromhex if "x" in text.lower() else float
        value = parse_float(text) if _SECONDS.fullmatch(text) else -1.0
    except (ValueError, OverflowError):
        value = -1.0
    if value < 0:
        raise UsageError(f"invalid number of seconds: {_shown(text)}")
    return min(max(value, _LEAST_INTERVAL), _LONGEST)


def _choice(text: str, choices: tuple[str, ...], option: str) -> str:
    """One of `choices`, or the beginning of exactly one."""
    matches = [choice for choice in choices if choice.startswith(text)]
    if len(matches) != 1:
        problem = "ambiguous" if matches else "invalid"
        raise UsageError(f"{problem} argument {_shown(text)} for '{option}': one of {', '.join(choices)}")
    return matches[0]


def _shown(text: str) -> str:
    return f"'{text[:60]}'"


# --- the old forms

_OBSOLETE = re.compile(r"([+-])([0-9]*)([bcl]?)(f?)")


def _obsolete(arguments: Sequence[str]) -> tuple[Sequence[str], Options]:
    """``-5``, ``+5``, ``-5c``, ``-5b``, ``-5l``, ``-5f``: the first word of a line with at most one operand.

    As GNU tail has it; ``-c`` alone is the new option, which wants a value.
    """
    match = _OBSOLETE.fullmatch(arguments[0]) if _may_be_obsolete(arguments) else None
    if match is None or arguments[0] in ("-", "-c"):
        return arguments, Options()
    sign, digits, unit, follow = match.groups()
    count = _digits(digits) if digits else 10
    if unit == "b":
        count *= 512
    amount = Amount(min(_ALL, count), lines=unit in ("", "l"), from_start=sign == "+")
    options = Options(amount=amount, amount_given=True, follow="descriptor" if follow else "no")
    return arguments[1:], options


def _may_be_obsolete(arguments: Sequence[str]) -> bool:
    count = len(arguments)
    if count == 2 and (not arguments[1].startswith("-") or arguments[1] == "-"):
        return True
    return count == 1 or (2 <= count <= 3 and arguments[1] == "--")


# --- help

_SYNOPSIS = """\
Usage: oss-tail [OPTION]... OBJECT...
Print the last 10 lines of each OBJECT in Alibaba Cloud OSS, and with -f go on as it grows.
With more than one OBJECT, precede each with a header that names it. Whatever can be
proven with the object's own CRC-64 is proven: a byte that is missing, doubled or changed
is noticed, said, and ends in exit status 3.

Objects:
  oss://BUCKET/KEY           one object
  oss://BUCKET/logs/*.log    all that match when the command starts: *, ? and [...] within
                             one part of the key, ** across parts (quote it for the shell)
  oss://BUCKET/PREFIX/       all below
  https://...                a public object, or a presigned URL
"""

_REST = """\
Mandatory arguments to long options are mandatory for short options too; a value for
--follow only after "=". Long names may be shortened. NUM may have a multiplier suffix:
b 512, kB 1000, K 1024, MB 1000*1000, M 1024*1024, and so on for G, T, P, E, Z, Y, R, Q;
KiB=K, MiB=M, and so on. The old forms -NUM, -NUMc, -NUMb, -NUMl, +NUM, with a final f to
follow, are understood before at most one OBJECT.

Following: -F, for logs, waits for the name to appear and starts over at byte 0 when the
object is replaced or shorter than before. -f ends then, exit status 3, and when the object
is deleted, exit status 1. A sealed object is end of file: it is printed, and left.

Service and credentials, in this order: option, environment, file, default.
  OSS_ENDPOINT, OSS_REGION   where the service is: a URL or host; a region such as cn-hangzhou
  OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN
                             the access key, and the token of temporary credentials
  OSSUTIL_CONFIG_FILE, OSSUTIL_PROFILE
                             another file than ~/.ossutilconfig, a section of it
  OSS_TAIL_TRANSPORT         direct, fast or httpx: which HTTP client to use
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR
                             the way there, and whom to trust
Without any of them: the default chain of the package alibabacloud-credentials, if installed.

Exit status:
  0    all was read, or the follow ended as asked
  1    an object could not be read (the others still are), or output could not be written
  2    the command line or the configuration is wrong
  3    integrity: the bytes do not match the object's CRC-64, it has none, bytes that were
       output turned out to be void, or an object followed with -f was replaced
  130  interrupted (Ctrl-C); 143 terminated. A closed pipe ends it silently, by SIGPIPE.

Examples:
  oss-tail oss://logs/app.log                      the last ten lines
  oss-tail -n 100 -F oss://logs/app.log            a hundred, then whatever comes, for ever
  oss-tail -F -n 0 'oss://logs/2024/**'         only what is new, in many objects
  oss-tail -c +1 oss://logs/app.log | gzip > a.gz  the whole object, every byte proven
  oss-tail -F -o app.log oss://logs/app.log        keep a local copy that goes on where it was
  oss-tail -f --json oss://logs/app.log            records with offsets, for a program
  oss-tail -F --checkpoint my.db oss://logs/a | x  go on after a stop where the last run was
  oss-tail -F --exec ./load oss://logs/app.log     new lines to a program, again if it fails
  oss-local -- oss-tail -F oss://demo/x            try it without any account
"""


def help_text() -> str:
    """What ``--help`` prints."""
    groups = "\n".join(_group(title) for title in (_GNU, _OSS))
    return f"{_SYNOPSIS}\n{groups}\n{_REST}"


def _group(title: str) -> str:
    lines = [f"{title}:"]
    for option in OPTIONS:
        if option.group == title:
            lines += _described(option)
    return "\n".join(lines) + "\n"


def _described(option: Option) -> list[str]:
    """One option in two columns, as GNU's help has them."""
    import textwrap

    spelled = _spelled(option)
    told = textwrap.wrap(option.help, 61)
    first = [f"  {spelled:<24} {told.pop(0)}"] if len(spelled) <= 24 else [f"  {spelled}"]
    return first + [" " * 27 + line for line in told]


def _spelled(option: Option) -> str:
    letter = f"-{option.letter}" if option.letter else "  "
    separator = ", " if option.letter and option.names else "  "
    value = "" if option.value is None else (f"[={option.value}]" if option.optional else f"={option.value}")
    names = ", ".join(f"--{name}" for name in option.names)
    return f"{letter}{separator}{names}{value}".rstrip() if names else letter

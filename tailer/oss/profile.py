"""``~/.ossutilconfig``, as ossutil 1 and ossutil 2 write it.

Version 1 has ``[Credentials]``, ``[Bucket-Endpoint]``, ``[Bucket-Cname]`` and ``[AkService]``; version 2 has
``[default]``, ``[profile NAME]`` and ``[buckets NAME]``. Names of sections and keys are compared without
case, ``-`` and ``_`` (OSS documentation, "Configure ossutil").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailer.errors import ConfigError
from tailer.oss.unshown import UnshownDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from configparser import ConfigParser
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Profile:
    """What one profile of a file says. The keys of `fields` are lower case, without ``-`` and ``_``.

    `buckets` holds settings for single buckets, by bucket name, with the same kind of keys.
    """

    source: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    buckets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The value of a key; None where it is missing or empty."""
        return self.fields.get(name) or None


def read_profile(path: Path, name: str | None = None) -> Profile:
    """Read one profile, ``default`` unless `name` is given.

    Raises ConfigError, in one line and without anything that stands in the file, when it cannot be read or has no
    such profile.
    """
    sections = _sections(_parsed(path))
    wanted = (name or "default").lower()
    fields = _fields_of(sections, wanted)
    if fields is None:
        if name is not None:
            raise ConfigError(f"{path} has no profile {name!r}; it has {_names(sections) or 'none'}")
        fields = UnshownDict()
    source = fields.get("sourceprofile")
    if source is not None:
        inherited = _fields_of(sections, source.lower())
        if inherited is None:
            raise ConfigError(f"{path} has no profile {source!r}, which {wanted!r} names as its source")
        fields = UnshownDict({**inherited, **fields})
    return Profile(f"{path}", fields, _buckets(sections, fields))


def _parsed(path: Path) -> ConfigParser:
    from configparser import ConfigParser, Error, MissingSectionHeaderError, ParsingError

    parser = ConfigParser(interpolation=None, strict=False, delimiters=("=",), default_section="", allow_no_value=True)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # buckets are names, not keys
    try:
        parser.read_string(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a configuration file of ossutil: it is not UTF-8") from None
    except MissingSectionHeaderError as error:
        where = f"line {error.lineno} stands before any [section]"
        raise ConfigError(f"{path} is not a configuration file of ossutil: {where}") from None
    except ParsingError as error:  # the causes are cut off: they quote the line, and it may hold a secret
        where = ", ".join(str(number) for number, _ in error.errors)
        raise ConfigError(f"{path} is not a configuration file of ossutil: cannot read line {where}") from None
    except (Error, AttributeError):  # the latter for a line that goes on a key without a value (CPython 3.11)
        raise ConfigError(f"{path} is not a configuration file of ossutil") from None
    return parser


def _sections(parser: ConfigParser) -> dict[str, UnshownDict]:
    """Sections by name in lower case, those that differ in case alone merged; keys as they are written."""
    sections: dict[str, UnshownDict] = {}
    for name in parser.sections():
        values = {key: (value or "").strip() for key, value in parser.items(name)}
        sections.setdefault(" ".join(name.lower().split()), UnshownDict()).update(values)
    return sections


def _fields_of(sections: Mapping[str, Mapping[str, str]], name: str) -> UnshownDict | None:
    """The fields of one profile under their loose names; version 1 knows ``default`` alone."""
    candidates = [f"profile {name}"]
    if name == "default":
        candidates = ["credentials", "default", "profile default"]
    found = [sections[candidate] for candidate in candidates if candidate in sections]
    if not found:
        return None
    fields = UnshownDict({_loose(key): value for section in found for key, value in section.items()})
    role = sections.get("akservice", {}) if name == "default" else {}
    url = {_loose(key): value for key, value in role.items()}.get("ecsak")
    if url:  # http://100.100.100.200/latest/meta-data/Ram/security-credentials/<role>
        fields.setdefault("mode", "EcsRamRole")
        fields.setdefault("ecsrolename", url.rstrip("/").rpartition("/")[2])
    return fields


def _buckets(sections: Mapping[str, Mapping[str, str]], fields: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    buckets: dict[str, Mapping[str, str]] = {}
    for bucket, host in sections.get("bucket-endpoint", {}).items():
        buckets[bucket] = {"endpoint": host}
    for bucket, host in sections.get("bucket-cname", {}).items():
        buckets[bucket] = {"endpoint": host, "addressingstyle": "cname"}
    for bucket, text in sections.get(f"buckets {fields.get('buckets', '').lower()}", {}).items():
        pairs = (pair.partition("=") for pair in text.replace(",", "\n").splitlines() if "=" in pair)
        buckets[bucket] = {_loose(key.strip()): value.strip() for key, _, value in pairs}
    return buckets


def _names(sections: Mapping[str, object]) -> str:
    plain = {"default": "default", "credentials": "default"}
    names = (plain.get(section) or section.removeprefix("profile ") for section in sections)
    return ", ".join(
        dict.fromkeys(
            name for name, section in zip(names, sections, strict=True) if name != section or section in plain
        )
    )


def _loose(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")

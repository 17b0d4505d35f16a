"""Where keys come from, and that their secrets are never shown."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import pytest

from tailer.errors import ConfigError, TransportError
from tailer.oss.credentials import (
    Anonymous,
    ChainCredentials,
    Credentials,
    EnvironmentCredentials,
    RereadCredentials,
    StaticCredentials,
    credentials_of_profile,
)
from tailer.oss.profile import Profile


def asked(provider):
    return asyncio.run(provider.get())


def test_secrets_are_not_shown():
    """The id is, as logs need it."""
    shown = repr(Credentials("the-id", "VerySecret", "VerySecret"))
    assert "the-id" in shown
    assert "VerySecret" not in shown
    assert "VerySecret" not in repr(Profile("path", {"accesskeysecret": "VerySecret"}))


def test_from_the_environment():
    """Read again at a refresh, as a program can renew its token there."""
    environ = {"OSS_ACCESS_KEY_ID": "ak", "OSS_ACCESS_KEY_SECRET": "sk", "OSS_SESSION_TOKEN": "t1"}
    provider = EnvironmentCredentials(environ)
    assert asked(provider) == Credentials("ak", "sk", "t1")
    environ["OSS_SESSION_TOKEN"] = "t2"
    asyncio.run(provider.refresh())
    assert asked(provider) == Credentials("ak", "sk", "t2")


def test_white_space_around_a_key_is_not_part_of_it():
    """As when a secret was made of a file with its last newline."""
    environ = {"OSS_ACCESS_KEY_ID": " ak", "OSS_ACCESS_KEY_SECRET": "sk\n", "OSS_SESSION_TOKEN": "t\r\n"}
    assert asked(EnvironmentCredentials(environ)) == Credentials("ak", "sk", "t")
    blank = {"OSS_ACCESS_KEY_ID": "ak", "OSS_ACCESS_KEY_SECRET": "sk", "OSS_SESSION_TOKEN": " \n"}
    assert asked(EnvironmentCredentials(blank)) == Credentials("ak", "sk")
    assert not EnvironmentCredentials.present({"OSS_ACCESS_KEY_ID": "\n"})
    with pytest.raises(ConfigError, match="OSS_ACCESS_KEY_SECRET is not set"):
        EnvironmentCredentials({"OSS_ACCESS_KEY_ID": "ak", "OSS_ACCESS_KEY_SECRET": "\n"})


@pytest.mark.parametrize("present", ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"])
def test_half_a_key_in_the_environment(present):
    """Names the half that is missing."""
    missing = ({"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"} - {present}).pop()
    assert EnvironmentCredentials.present({present: "x"})
    with pytest.raises(ConfigError, match=f"{missing} is not set"):
        EnvironmentCredentials({present: "x"})


def test_static_and_anonymous():
    """Neither has anything to refresh."""
    keys = Credentials("ak", "sk")
    for provider, expected in ((StaticCredentials(keys), keys), (Anonymous(), None)):
        asyncio.run(provider.refresh())
        assert asked(provider) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"accesskeyid": "ak", "accesskeysecret": "sk"}, Credentials("ak", "sk")),
        (
            {"mode": "StsToken", "accesskeyid": "ak", "accesskeysecret": "sk", "ststoken": "t"},
            Credentials("ak", "sk", "t"),
        ),
        ({"mode": "Anonymous"}, None),
    ],
)
def test_of_a_profile(fields, expected):
    """Modes that need nobody else."""
    assert asked(credentials_of_profile(Profile("file", fields))) == expected


def test_a_profile_without_keys():
    """Says nothing, so that the next in the order is asked."""
    assert credentials_of_profile(Profile("file", {"region": "cn-x"})) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"accesskeyid": "ak"}, "no access-key-secret"),
        ({"mode": "AK"}, "no access-key-id"),
        ({"credentialprocess": "rm -rf /"}, "Process"),
        ({"mode": "CloudSSO"}, "CloudSSO"),
        ({"rolearn": "acs:x"}, "needs access-key-id, access-key-secret"),
        ({"mode": "CredentialsURI"}, "credentials-uri"),
    ],
)
def test_profiles_that_cannot_serve(fields, words):
    """One line with what is missing; no program is run."""
    with pytest.raises(ConfigError, match=words):
        credentials_of_profile(Profile("file", fields))


# --- the official package

# Its own warnings are not ours to fix.
official = pytest.mark.filterwarnings("default")


@pytest.fixture
def bare_chain(monkeypatch, tmp_path):
    """Nothing of this machine is found, and no metadata service is asked."""
    for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN", "CREDENTIALS_URI", "ROLE_ARN", "PROFILE"):
        monkeypatch.delenv(f"ALIBABA_CLOUD_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    from alibabacloud_credentials.utils import auth_util

    monkeypatch.setattr(auth_util, "environment_ecs_metadata_disabled", "true")
    monkeypatch.setattr(auth_util, "environment_credentials_uri", None)
    monkeypatch.setattr(auth_util, "environment_credentials_file", None)


@official
@pytest.mark.usefixtures("bare_chain")
def test_the_default_chain(monkeypatch):
    """Its own environment variables are the first that it looks at."""
    from alibabacloud_credentials.utils import auth_util

    monkeypatch.setattr(auth_util, "environment_access_key_id", "chain-ak")
    monkeypatch.setattr(auth_util, "environment_access_key_secret", "chain-sk")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "chain-ak")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "chain-sk")
    assert asked(ChainCredentials()) == Credentials("chain-ak", "chain-sk")


@official
@pytest.mark.usefixtures("bare_chain")
def test_a_chain_that_finds_nothing():
    """Says how to give a key."""
    with pytest.raises(ConfigError, match="OSS_ACCESS_KEY_ID") as caught:
        asked(ChainCredentials())
    assert "\n" not in str(caught.value)


def keys_of(wire, number, seconds):
    """What a credentials URI answers with keys that are good for so many seconds more."""
    body = {
        "Code": "Success",
        "AccessKeyId": f"ak{number}",
        "AccessKeySecret": "sk",
        "SecurityToken": f"t{number}",
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds)),
    }
    return wire.answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


@official
def test_a_credentials_uri_is_asked_again_after_a_refresh(wire):
    """Kept between requests, dropped by `refresh`, renewed by the service behind the URI."""

    async def main():
        async with wire.serving(keys_of(wire, 1, 3600), keys_of(wire, 2, 3600)) as server:
            profile = Profile("file", {"credentialuri": f"{server.url}/credentials"})
            provider = credentials_of_profile(profile)
            seen = [await provider.get(), await provider.get()]
            await provider.refresh()
            return [*seen, await provider.get()], len(server.requests)

    seen, requests = asyncio.run(main())
    assert [(keys.access_key_id, keys.security_token) for keys in seen] == [("ak1", "t1"), ("ak1", "t1"), ("ak2", "t2")]
    assert requests == 2


@official
def test_a_renewal_that_fails_does_not_matter_until_the_credentials_are_refused(wire):
    """Those that were known are used meanwhile, and the source is not asked at every request."""
    now = [0.0]

    async def main():
        soon_over = keys_of(wire, 1, 600)  # by the package, renewed from a quarter of an hour before their end on
        async with wire.serving(soon_over, wire.answer(503), wire.answer(503), keys_of(wire, 2, 3600)) as server:
            provider = ChainCredentials(
                {"type": "credentials_uri", "credentials_uri": f"{server.url}/keys"}, clock=lambda: now[0]
            )
            seen = []
            for now[0] in (0.0, 61.0, 120.0, 122.0, 183.0):
                seen.append(((await provider.get()).access_key_id, len(server.requests)))
            return seen

    assert asyncio.run(main()) == [("ak1", 1), ("ak1", 2), ("ak1", 2), ("ak1", 3), ("ak2", 4)]


@official
def test_where_refused_credentials_cannot_be_renewed_it_may_be_tried_again(wire):
    """The refused ones are not used any more; as soon as the source answers again, all goes on."""

    async def main():
        async with wire.serving(keys_of(wire, 1, 3600), wire.answer(503), keys_of(wire, 2, 3600)) as server:
            provider = ChainCredentials({"type": "credentials_uri", "credentials_uri": f"{server.url}/keys"})
            await provider.get()
            await provider.refresh()
            with pytest.raises(TransportError, match=r"no new one was found.*503") as caught:
                await provider.get()
            return caught.value.retriable, (await provider.get()).access_key_id

    assert asyncio.run(main()) == (True, "ak2")


@official
def test_where_no_credentials_were_ever_found_trying_again_is_not_enough(wire):
    async def main():
        async with wire.serving(wire.answer(503)) as server:
            provider = ChainCredentials({"type": "credentials_uri", "credentials_uri": f"{server.url}/keys"})
            with pytest.raises(ConfigError, match="set OSS_ACCESS_KEY_ID"):
                await provider.get()

    asyncio.run(main())


def test_the_package_is_not_installed(monkeypatch):
    """Says how to install it, and what else would do."""
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials", None)
    with pytest.raises(ConfigError, match=r"pip install 'oss-tail\[credentials\]'"):
        ChainCredentials()


class Kept:
    """What is read, and a clock."""

    def __init__(self):
        self.now, self.reads = 0.0, 0
        self.credentials = Credentials("ak", "first")

    def read(self):
        self.reads += 1
        if self.credentials is None:
            raise ConfigError("the file is empty")
        return self.credentials


def test_credentials_that_somebody_changes_are_read_again_once_a_minute():
    kept = Kept()
    provider = RereadCredentials(kept.read, clock=lambda: kept.now)
    kept.credentials = Credentials("ak", "second")
    for kept.now, secret, reads in (
        (59.0, "first", 1),
        (61.0, "second", 2),
        (120.0, "second", 2),
        (122.0, "second", 3),
    ):
        assert (asked(provider).access_key_secret, kept.reads) == (secret, reads)


def test_credentials_are_read_again_at_once_when_they_are_refused():
    kept = Kept()
    provider = RereadCredentials(kept.read, clock=lambda: kept.now)
    kept.credentials = Credentials("ak", "second")
    asyncio.run(provider.refresh())
    assert asked(provider) == kept.credentials


def test_a_file_that_is_being_changed_does_not_matter_until_the_credentials_are_refused():
    """What was read last is used meanwhile, and is not asked for at every request."""
    kept = Kept()
    provider = RereadCredentials(kept.read, clock=lambda: kept.now)
    kept.credentials = None
    for kept.now, reads in ((61.0, 2), (100.0, 2), (122.0, 3)):
        assert (asked(provider).access_key_secret, kept.reads) == ("first", reads)
    with pytest.raises(ConfigError, match="the file is empty"):
        asyncio.run(provider.refresh())
    assert asked(provider).access_key_secret == "first"
    with pytest.raises(ConfigError):
        RereadCredentials(kept.read)

"""Argument, then environment, then file, then default: for every setting, and in words when it fails."""

from __future__ import annotations

import asyncio

import pytest

from tailer.config import resolve_service
from tailer.errors import ConfigError
from tailer.oss.credentials import Anonymous, ChainCredentials, Credentials, StaticCredentials

KEYS = {"OSS_ACCESS_KEY_ID": "env-ak", "OSS_ACCESS_KEY_SECRET": "env-sk"}
FILE = """\
[default]
access-key-id=file-ak
access-key-secret=file-sk
region=cn-file
sign-version=v1

[profile other]
access-key-id=other-ak
access-key-secret=other-sk
region=cn-other
"""


@pytest.fixture
def resolved(tmp_path):
    """`resolve_service` in a home of its own, with a configuration file if there is text for one."""

    def resolve(environ=None, file=None, **arguments):
        if file is not None:
            (tmp_path / ".ossutilconfig").write_text(file)
        return resolve_service(environ={"HOME": str(tmp_path), **(environ or {})}, **arguments)

    return resolve


def keys_of(settings):
    return asyncio.run(settings.credentials.get())


def test_the_environment_is_enough(resolved):
    """What oss-local prints."""
    environ = {**KEYS, "OSS_ENDPOINT": "http://127.0.0.1:9000", "OSS_REGION": "cn-local", "OSS_SESSION_TOKEN": "t"}
    settings = resolved(environ)
    assert str(settings.endpoint) == "http://127.0.0.1:9000"
    assert (settings.region, settings.sign_version) == ("cn-local", "v4")
    assert keys_of(settings) == Credentials("env-ak", "env-sk", "t")


def test_the_file_is_enough(resolved):
    """Region, keys and signature version; the endpoint follows from the region."""
    settings = resolved(file=FILE)
    assert str(settings.endpoint) == "https://oss-cn-file.aliyuncs.com"
    assert (settings.region, settings.sign_version) == ("cn-file", "v1")
    assert keys_of(settings) == Credentials("file-ak", "file-sk")


def test_arguments_go_before_the_environment_and_that_before_the_file(resolved):
    """Setting by setting."""
    settings = resolved({**KEYS, "OSS_REGION": "cn-env"}, FILE)
    assert (settings.region, keys_of(settings).access_key_id) == ("cn-env", "env-ak")
    settings = resolved({**KEYS, "OSS_REGION": "cn-env"}, FILE, region="cn-arg", sign_version="v4")
    assert (settings.region, settings.sign_version) == ("cn-arg", "v4")
    assert str(settings.endpoint) == "https://oss-cn-arg.aliyuncs.com"


def test_a_profile_that_is_asked_for_by_name(resolved):
    """As an argument it goes before the environment; OSSUTIL_PROFILE stands beside the keys there."""
    assert keys_of(resolved(KEYS, FILE, profile="other")).access_key_id == "other-ak"
    assert keys_of(resolved({**KEYS, "OSSUTIL_PROFILE": "other"}, FILE)).access_key_id == "env-ak"
    assert keys_of(resolved({"OSSUTIL_PROFILE": "other"}, FILE)).access_key_id == "other-ak"


def test_a_file_in_another_place(resolved, tmp_path):
    """OSSUTIL_CONFIG_FILE, which must then exist."""
    path = tmp_path / "elsewhere.ini"
    path.write_text(FILE)
    assert resolved({"OSSUTIL_CONFIG_FILE": str(path)}).region == "cn-file"
    with pytest.raises(ConfigError, match="no-such-file cannot be read"):
        resolved({"OSSUTIL_CONFIG_FILE": str(tmp_path / "no-such-file")})


def test_a_broken_file_does_not_matter_when_it_is_not_needed(resolved):
    """Everything is known without it."""
    environ = {**KEYS, "OSS_ENDPOINT": "oss-cn-hangzhou.aliyuncs.com"}
    assert resolved(environ, "garbage").region == "cn-hangzhou"
    with pytest.raises(ConfigError, match="not a configuration file"):
        resolved(KEYS, "garbage")


@pytest.mark.parametrize(
    ("environ", "arguments", "endpoint", "region"),
    [
        (
            {"OSS_ENDPOINT": "oss-cn-hangzhou-internal.aliyuncs.com"},
            {},
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "cn-hangzhou",
        ),
        ({"OSS_REGION": "cn-env"}, {"endpoint": "oss-cn-x.aliyuncs.com"}, "https://oss-cn-x.aliyuncs.com", "cn-x"),
        ({"OSS_REGION": "cn-env"}, {"endpoint": "https://oss.example.com"}, "https://oss.example.com", "cn-env"),
        ({}, {"endpoint": "http://127.0.0.1:1"}, "http://127.0.0.1:1", "cn-local"),
        ({"OSS_REGION": ""}, {"endpoint": "localhost", "region": "cn-x"}, "https://localhost", "cn-x"),
        (
            {},
            {"endpoint": "oss-cn-x-finance-1-pub.aliyuncs.com", "region": "cn-x-finance-1"},
            "https://oss-cn-x-finance-1-pub.aliyuncs.com",
            "cn-x-finance-1",
        ),
    ],
)
def test_endpoint_and_region_together(resolved, environ, arguments, endpoint, region):
    """An endpoint names its region; a region that stands lower in the order does not touch it."""
    settings = resolved({**KEYS, **environ}, **arguments)
    assert (str(settings.endpoint), settings.region) == (endpoint, region)


def test_endpoint_and_region_that_disagree(resolved):
    """Nobody guesses which is meant."""
    environ = {**KEYS, "OSS_ENDPOINT": "oss-cn-hangzhou.aliyuncs.com"}
    with pytest.raises(ConfigError, match=r"\(OSS_ENDPOINT\) is in cn-hangzhou, but --region says cn-beijing"):
        resolved(environ, region="cn-beijing")


def test_nothing_says_where_the_service_is(resolved):
    """The three ways to say it, and the way to do without."""
    with pytest.raises(ConfigError) as caught:
        resolved(KEYS)
    line = str(caught.value)
    for word in ("--region", "OSS_REGION", "~/.ossutilconfig", "oss-local"):
        assert word in line
    assert "\n" not in line


def test_an_endpoint_that_names_no_region(resolved):
    """V4 needs one; V1 and unsigned requests do not."""
    environ = {**KEYS, "OSS_ENDPOINT": "oss-accelerate.aliyuncs.com"}
    with pytest.raises(ConfigError, match="names no region: give --region"):
        resolved(environ)
    assert resolved(environ, sign_version="v1").region is None
    assert resolved(environ, no_sign_request=True).region is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"endpoint": "ftp://host"}, "neither http nor https"),
        ({"endpoint": "http://host/path"}, "not a host"),
        ({"region": "Hang Zhou"}, "is not a region"),
        ({"region": "oss-cn-hangzhou"}, "the region is cn-hangzhou"),
        ({"endpoint": "b.oss-cn-hangzhou.aliyuncs.com"}, "names a bucket"),
        ({"region": "cn-x", "profile": "nobody"}, "has no profile 'nobody'"),
    ],
)
def test_bad_arguments(resolved, arguments, words):
    """One line that says what is wrong."""
    with pytest.raises(ConfigError, match=words) as caught:
        resolved(file=FILE, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("addressing-style=sideways", "virtual, path or cname"),
        ("sign-version=v9", "v4 or v1"),
        ("endpoint=http://", "endpoint"),
    ],
)
def test_bad_values_in_the_file(resolved, line, words):
    """The line says which they can be."""
    with pytest.raises(ConfigError, match=words):
        resolved(file=f"[default]\naccess-key-id=a\naccess-key-secret=b\nregion=cn-x\n{line}\n")


def test_addressing_and_buckets_of_the_file(resolved):
    """They belong to the file's endpoint, and do not outlive another one."""
    text = (
        "[Credentials]\nendpoint=oss.example.com\nregion=cn-x\naddressing-style=path\naccessKeyID=a\naccessKeySecret=b\n"
        "[Bucket-Cname]\nlogs=logs.example.com\n[Bucket-Endpoint]\nfar=oss-cn-far.aliyuncs.com\n"
    )
    settings = resolved(file=text)
    assert settings.endpoint_of("other").url("other", "k") == "https://oss.example.com/other/k"
    assert settings.endpoint_of("logs").url("logs", "k") == "https://logs.example.com/k"
    assert (settings.region_of("far"), settings.region_of("logs")) == ("cn-far", "cn-x")
    settings = resolved(file=text, endpoint="https://elsewhere.example.com")
    assert settings.endpoint_of("logs").url("logs", "k") == "https://logs.elsewhere.example.com/k"


def test_without_keys(resolved):
    """--no-sign-request asks for none; else the official chain is the last resort."""
    assert isinstance(resolved(region="cn-x", no_sign_request=True).credentials, Anonymous)
    assert isinstance(resolved(region="cn-x").credentials, ChainCredentials)


def test_credentials_that_the_caller_has(resolved):
    """They go before those of the environment and of a profile, but not before wanting none."""
    mine = StaticCredentials(Credentials("mine", "sk"))
    assert resolved(KEYS, FILE, profile="other", credentials=mine).credentials is mine
    assert isinstance(resolved(KEYS, FILE, credentials=mine, no_sign_request=True).credentials, Anonymous)


def test_arguments_are_called_as_the_caller_calls_them(resolved):
    """In a file they are no options."""
    for environ, words in (
        ({}, r"give oss\.region or oss\.endpoint, set"),
        ({"OSS_ENDPOINT": "oss-accelerate.aliyuncs.com"}, r"names no region: give oss\.region or"),
    ):
        with pytest.raises(ConfigError, match=words):
            resolved({**KEYS, **environ}, option="oss.{}")


def test_objects_known_by_their_url_need_nothing(resolved):
    """Not even a home."""
    settings = resolved(file="garbage", urls_only=True)
    assert settings.endpoint is None
    assert isinstance(settings.credentials, Anonymous)

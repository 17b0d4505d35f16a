"""`~/.ossutilconfig` in both forms, and files that are something else."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailer.errors import ConfigError
from tailer.oss.profile import read_profile

VERSION_1 = """\
[Credentials]
language=EN
endpoint=oss-cn-hangzhou.aliyuncs.com
accessKeyID=ak1
accessKeySecret=sk=1
stsToken=token1

[Bucket-Endpoint]
Mixed-bucket=oss-cn-shanghai.aliyuncs.com
[Bucket-Cname]
named=logs.example.com

[Default]
loglevel=info
"""
VERSION_2 = """\
# a comment
[default]
access-key-id = ak2
access_key_secret = sk2
region = cn-beijing
addressing-style = path
buckets = mine

[profile Dev]
AccessKeyId=ak3
accessKeySecret=sk3
region=cn-shenzhen
endpoint=https://oss-cn-shenzhen-internal.aliyuncs.com

[profile role]
mode=RamRoleArn
source_profile=dev
role-arn=acs:ram::1:role/x

[profile lost]
source-profile=nowhere

[buckets mine]
one =
    endpoint=oss-cn-shanghai.aliyuncs.com
    addressing-style=virtual
two = region=cn-x, endpoint=e.example.com
"""


def written(tmp_path, text):
    path = tmp_path / "ossutilconfig"
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


def test_version_1(tmp_path):
    """One set of keys, and endpoints of single buckets."""
    profile = read_profile(written(tmp_path, VERSION_1))
    assert profile.get("accesskeyid") == "ak1"
    assert profile.get("accesskeysecret") == "sk=1"
    assert profile.get("ststoken") == "token1"
    assert profile.get("endpoint") == "oss-cn-hangzhou.aliyuncs.com"
    assert profile.get("nothing") is None
    assert profile.buckets == {
        "Mixed-bucket": {"endpoint": "oss-cn-shanghai.aliyuncs.com"},
        "named": {"endpoint": "logs.example.com", "addressingstyle": "cname"},
    }


def test_version_1_with_an_instance_role(tmp_path):
    """[AkService] names the role in the last part of its URL."""
    text = (
        "[AkService]\necsAk=http://100.100.100.200/latest/meta-data/Ram/security-credentials/my-role\n[Credentials]\n"
    )
    profile = read_profile(written(tmp_path, text))
    assert (profile.get("mode"), profile.get("ecsrolename")) == ("EcsRamRole", "my-role")


def test_version_2(tmp_path):
    """Keys are spelt loosely; per-bucket settings come in two layouts."""
    profile = read_profile(written(tmp_path, VERSION_2))
    assert (profile.get("accesskeyid"), profile.get("accesskeysecret")) == ("ak2", "sk2")
    assert (profile.get("region"), profile.get("addressingstyle")) == ("cn-beijing", "path")
    assert profile.buckets["one"] == {"endpoint": "oss-cn-shanghai.aliyuncs.com", "addressingstyle": "virtual"}
    assert profile.buckets["two"] == {"region": "cn-x", "endpoint": "e.example.com"}


def test_a_named_profile(tmp_path):
    """Names are compared without case."""
    profile = read_profile(written(tmp_path, VERSION_2), "dev")
    assert (profile.get("accesskeyid"), profile.get("region")) == ("ak3", "cn-shenzhen")


def test_a_profile_builds_on_its_source(tmp_path):
    """source_profile lends what is not said here."""
    profile = read_profile(written(tmp_path, VERSION_2), "role")
    assert (profile.get("rolearn"), profile.get("accesskeyid")) == ("acs:ram::1:role/x", "ak3")


def test_full_name_of_the_default_profile(tmp_path):
    """[profile default] is [default]."""
    assert read_profile(written(tmp_path, "[profile default]\nregion=r")).get("region") == "r"


def test_an_empty_file_says_nothing(tmp_path):
    """And is no error."""
    assert read_profile(written(tmp_path, "")).get("accesskeyid") is None


@pytest.mark.parametrize(("name", "words"), [("nobody", "default, dev, role, lost"), ("lost", "nowhere")])
def test_a_profile_that_is_not_there(tmp_path, name, words):
    """The message names those that are."""
    with pytest.raises(ConfigError, match=words):
        read_profile(written(tmp_path, VERSION_2), name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accessKeySecret=VerySecret\n", "line 1"),
        ("[Credentials]\n]VerySecret[\n[x\nVerySecret\n", ""),
        (b"[Credentials]\naccessKeySecret=VerySecret\xff\n", "not UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00VerySecret", ""),
    ],
)
def test_a_file_of_something_else(tmp_path, text, words):
    """One line, the path, and nothing that stands in the file: neither in the message nor in a traceback."""
    path = written(tmp_path, text)
    try:
        message = repr(read_profile(path))
    except ConfigError as error:
        message = str(error)
        assert error.__cause__ is None  # noqa: PT017 - whether it is refused is not the point
        assert str(path) in message
    assert words in message
    assert "VerySecret" not in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read(tmp_path):
    """A folder, or no permission."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_profile(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_profile(tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    """One line."""
    path = written(tmp_path, VERSION_1)
    path.chmod(stat.S_IWUSR)
    with pytest.raises(ConfigError, match="Permission denied"):
        read_profile(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=100), st.text("[]=\n\r aprofile%$;#:\t", max_size=60).map(str.encode)))
def test_any_file_is_read_or_refused(tmp_path, content):
    """Random bytes are never anything but a profile or a ConfigError."""
    path = written(tmp_path, content)
    try:
        assert read_profile(path).source == str(path)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right

"""What is not proven is kept with a checkpoint, and what an older version kept is read as what it is: not known."""

from __future__ import annotations

import base64
import json
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tailer import checkpoints
from tailer.checkpoints import Checkpoint, Checkpoints, decode, encode, read_all
from tailer.core.position import Claim, Mark, ObjectRef, Position
from tailer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

A, B, C, D = (ObjectRef("bucket", f"{name}.log") for name in "abcd")
LOOSE, TIED = Claim(10, 40, 2**64 - 1, None), Claim(10, 30, 0, 2**64 - 2)
MARKS = {
    A: Mark(Position(50, 7, 3, TIED), Position(40, None, 3, LOOSE), inside=True),
    B: Mark.at(Position.unread(9)),
    C: Mark.at(Position.unread(9, 8)),
    D: Mark.at(Position(9, 8)),
}

# A file that version 1 made, with what stands in FROM_VERSION_1 as far as it kept it.
VERSION_1 = """
c-rlkPjAyO6u|8aY3-ycAP&>S<xN~tDNHF#+i~DeDG{p{R!B3AahX!bEm50fN?as902eNNAwC#KoU~0xmmtpQ{p2S(dB68;$-
a2>!43q6Nt}e9fMar>C<=K6KnPJ*v4+aHxAmO`8IDFSDMukkj5ac{@rlTRAP9mW2!bF8@*nc;G2PuiJfz<r2yZ;+>@#Pxn>dKXW~THVtLIwa_F
mf-Z2p6`2P;?{rHha!*V80k+<<F+bm4p`<HEM}!b)Xr$g8sB1)FhEm7VdgRVkm(gD*VcJ`B!X>#gM!4)jm0{uyW+<Hd6@nkA*zEMXlpUtyD-
@`xv%2;!)+^DSkowQL(qg1>C45Go2ww^StmVQ*#b)>=W720pLsP^3XKbZ9kiRkAn?10iI0`5>3~!!9|P_s-
y5&$)s#>k70#uZX_74EpNW_3VI~d1VtW2kz<c!Ubn|Ie3%*+shvHs!7zJ>JQbE69hpJ1VIo4K@bE%a`eWdhX?yLwU&)tpHIBST*PU*d~o|m^LT
0)FMloNC%H^3WR}TKPYQe4nv$9vckOXz*XwJ!zm(gQs<eJb_VU)P6VvQ;P1EQeca3N5cB|8B?`Ykfb&ubnz4xI
"""
FROM_VERSION_1 = {
    A: Mark(Position(50, 2**64 - 1, 3, Claim(40, 40, 0, 7)), Position(40, 7, 3, Claim(40, 40, 0, 7)), inside=True),
    B: Mark.at(Position(9, None, 0, Claim(9, 9, 0, None))),
    C: Mark(Position(50, 8), Position()),
    D: Mark(),
}
OLD_LINE = (
    '{"group": "default", "object": {"bucket": "bucket", "key": "a.log", "scheme": "oss"}, '
    '"delivered": {"offset": 50, "crc64": "18446744073709551615", "generation": 3}, '
    '"verified": {"offset": 40, "crc64": "7", "generation": 3}, "inside": true, "committed_at": 1.5}'
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    path.write_bytes(zlib.decompress(base64.b85decode("".join(VERSION_1.split()))))
    return path


def own(path: Path) -> Checkpoints:
    return Checkpoints.open(path, owner="a test")


def marks(path: Path) -> dict[ObjectRef, Mark]:
    return {one.ref: one.mark for one in read_all(path)}


def test_what_is_not_proven_is_kept(tmp_path: Path) -> None:
    with own(tmp_path / "state.db") as mine:
        mine.commit(MARKS)
        assert {ref: mine.load(ref) for ref in MARKS} == MARKS
    assert marks(tmp_path / "state.db") == MARKS


def test_what_is_not_proven_is_exported_and_imported() -> None:
    for ref, mark in MARKS.items():
        one = Checkpoint("default", ref, mark, 1.5)
        assert decode(encode(one)) == one


def test_a_file_of_version_1_is_read_and_left_as_it_is(old: Path) -> None:
    """Where a reading began, it does not say: nothing vouches for what lies before the place, unless that is byte 0."""
    before = old.read_bytes()
    assert marks(old) == FROM_VERSION_1
    assert old.read_bytes() == before
    assert [entry.name for entry in old.parent.iterdir() if entry.suffix == ".db"] == ["state.db"]


def test_a_file_of_version_1_is_brought_up_to_date_by_its_owner(old: Path) -> None:
    with own(old) as mine:
        assert {ref: mine.load(ref) for ref in FROM_VERSION_1} == FROM_VERSION_1
        assert [one.committed_at for one in mine.all()] == [1.5] * 4
        assert {since for _, since in mine.gone_since(None, 9)} == {None}
        assert mine.begin(["x"]) == set()
        mine.commit({A: MARKS[A]})
        assert mine.load(A) == MARKS[A]
        assert mine._database.execute("PRAGMA user_version").fetchone() == (5,)
    assert marks(old) == {**FROM_VERSION_1, A: MARKS[A]}


def test_a_group_that_had_begun_in_a_file_of_version_3_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is still to be listed for the first time, though it had no object by then."""
    path = tmp_path / "state.db"
    with monkeypatch.context() as before:
        before.setattr(checkpoints, "_MIGRATIONS", checkpoints._MIGRATIONS[:3])
        with own(path) as mine:
            mine._database.execute("INSERT INTO consumer_group VALUES ('default', 1.5)")
    with own(path) as mine:
        assert mine.begin(["x"]) == set()
        assert mine.begin([]) == set()


def test_what_a_process_of_version_1_writes_meanwhile_is_not_known_either(old: Path) -> None:
    """It holds another group, and had the file open before it was brought up to date."""
    with closing(checkpoints._connect(old, writable=True)) as other, own(old) as mine:
        mine.commit(MARKS)
        other.execute(
            "REPLACE INTO checkpoint (consumer_group, scheme, bucket, key, delivered, delivered_crc64, generation, "
            "verified, verified_crc64, verified_generation, inside, committed_at) "
            "VALUES ('default', 'oss', 'bucket', 'd.log', 9, '8', 0, 9, '8', 0, 0, 1.5)"
        )
        assert mine.load(D) == Mark.at(Position.unread(9, 8))


def test_an_export_of_version_1_is_read() -> None:
    assert decode(OLD_LINE) == Checkpoint("default", A, FROM_VERSION_1[A], 1.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start", 0),
        ("start", 31),
        ("size", 51),
        ("size", "30"),
        ("crc64", None),
        ("crc64", str(2**64)),
        ("stated", 7),
        ("stated", "-1"),
    ],
    ids=str,
)
def test_a_claim_that_cannot_be_is_refused(name: str, value: object) -> None:
    line = json.loads(encode(Checkpoint("default", A, MARKS[A], 1.5)))
    assert decode(json.dumps(line)).mark == MARKS[A]
    line["delivered"]["claim"][name] = value
    with pytest.raises(ConfigError, match="not an exported checkpoint"):
        decode(json.dumps(line))


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"start": 1}', "nonsense"], ids=repr)
def test_a_file_with_a_claim_that_is_none_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.db"
    with own(path) as mine:
        mine.commit(MARKS)
        mine._database.execute("UPDATE checkpoint SET verified_claim = ?", (text,))
    for use in (own, read_all):
        with pytest.raises(ConfigError, match="damaged"):
            use(path)

"""The auditor of the soak can count: whatever would be wrong with a delivery, it finds."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.soak.ledger import Auditor, json_lines, library_log
from tests.soak.records import Stream, write_expected
from tests.soak.verdict import judge_memory
from tests.soak.world import Life

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.ledger import Ledger

OBJECT = "oss://soak/logs/00.log"
TRUTH = b"one\ntwo\nthree\nfour\n"


def record(start: int, end: int, data: bytes | None = None, **other: object) -> bytes:
    """A line of ``oss-tail --json``; `data` where it is not the true one."""
    encoded = base64.b64encode((TRUTH[start:end] if data is None else data)[:-1]).decode()
    fields = {"type": "record", "object": OBJECT, "generation": 0, "start": start, "end": end, "verified": True}
    return json.dumps({**fields, "data_base64": encoded, **other}).encode() + b"\n"


def life(folder: Path, number: int, content: bytes, *, killed: float | None = 10.0, seen: float = 9.5) -> Life:
    """A process that was killed at `killed`, and had delivered all its output at `seen`."""
    out = folder / f"{number}.out"
    out.write_bytes(content)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return Life(process, out, out, 0.0, killed=killed, growth=[(seen, len(content))])


def audit(folder: Path, *lives: bytes, is_strict: bool = False) -> Ledger:
    """All lives but the last one were killed, half a second after their last delivery."""
    last = len(lives) - 1
    made = [life(folder, n, content, killed=None if n == last else 10.0) for n, content in enumerate(lives)]
    return Auditor({OBJECT: TRUTH}, is_strict=is_strict).audit(made, json_lines)


WHOLE = record(0, 4) + record(4, 8) + record(8, 14) + record(14, 19)


def test_what_is_right_is_no_problem(tmp_path: Path) -> None:
    ledger = audit(tmp_path, WHOLE)
    assert (ledger.problems, ledger.repeats, ledger.delivered) == ([], [], len(TRUTH))


def test_a_repeat_after_a_kill_is_counted_with_its_age(tmp_path: Path) -> None:
    ledger = audit(tmp_path, record(0, 4) + record(4, 8), record(4, 8) + record(8, 14) + record(14, 19))
    assert (ledger.problems, ledger.repeats) == ([], [(4, 0.5)])


def test_a_life_that_did_not_come_as_far_as_the_one_before_is_no_loss(tmp_path: Path) -> None:
    third = record(8, 14) + record(14, 19)
    ledger = audit(tmp_path, record(0, 4) + record(4, 8) + record(8, 14), record(4, 8), third)
    assert (ledger.problems, ledger.repeats) == ([], [(10, 0.5), (6, 0.5)])


def test_a_torn_end_of_a_killed_process_is_as_if_not_written(tmp_path: Path) -> None:
    ledger = audit(tmp_path, record(0, 4) + record(4, 8)[:30], record(4, 8) + record(8, 14) + record(14, 19))
    assert (ledger.problems, ledger.torn) == ([], 1)


@pytest.mark.parametrize(
    ("lives", "found"),
    [
        ([record(0, 4), record(8, 14) + record(14, 19)], "0000.out: lost [4, 8)"),
        ([record(0, 4) + record(8, 14) + record(14, 19)], "lost between 4 and 8"),
        ([record(0, 4) + record(0, 4) + WHOLE[len(record(0, 4)) :]], "doubled between 4 and 0"),
        ([WHOLE[: -len(record(14, 19))]], "ends at 14, the object at 19"),
        ([record(0, 4, b"two\n") + WHOLE[len(record(0, 4)) :]], "wrong bytes in [0, 4)"),
        ([record(0, 4, b"two\n", verified=False) + WHOLE[len(record(0, 4)) :]], "wrong bytes that never came again"),
        ([WHOLE[:-5]], "torn output though it was not killed"),
        ([record(0, 4, generation=1)], "generation 1"),
        ([json.dumps({"type": "replaced", "object": OBJECT}).encode() + b"\n" + WHOLE], "replaced, which did not"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, lives: list[bytes], found: str) -> None:
    problems = "\n".join(audit(tmp_path, *lives).problems)
    assert found.removeprefix("0000.out: ") in problems


def test_wrong_bytes_that_were_not_verified_and_came_again_right_are_counted_alone(tmp_path: Path) -> None:
    rewound = json.dumps({"type": "rewound", "object": OBJECT, "generation": 0, "to": 0, "end": 4}).encode() + b"\n"
    lives = [record(0, 4, b"two\n", verified=False) + rewound + WHOLE]
    ledger = audit(tmp_path, *lives)
    assert (ledger.problems, ledger.void_wrong, ledger.voided) == ([], 1, 4)
    assert audit(tmp_path, *lives, is_strict=True).problems == [f"0.out: {OBJECT}: wrong bytes in [0, 4)"]


def test_the_log_of_the_library_is_read_up_to_its_torn_end(tmp_path: Path) -> None:
    def batch(start: int, end: int) -> bytes:
        header = {"object": OBJECT, "generation": 0, "start": start, "size": end - start}
        return json.dumps(header).encode() + b"\n" + TRUTH[start:end]

    lives = [life(tmp_path, 0, batch(0, 8) + batch(8, 19)[:-2]), life(tmp_path, 1, batch(8, 19), killed=None)]
    ledger = Auditor({OBJECT: TRUTH}, is_strict=True).audit(lives, library_log)
    assert (ledger.problems, ledger.torn, ledger.repeats) == ([], 1, [])


def test_the_bytes_of_an_object_are_made_anew_from_its_seed(tmp_path: Path) -> None:
    stream = Stream(7, 3)
    written = b"".join(stream.take(size) for size in (1, 5000, 70_000, 13)) + stream.finish()
    assert write_expected(tmp_path / "truth", 7, 3, len(written))
    assert (tmp_path / "truth").read_bytes() == written
    assert not write_expected(tmp_path / "truth", 7, 3, len(written) - 1)


@pytest.mark.parametrize(("growth", "passes"), [(0, True), (20_000, False)])
def test_a_slope_of_memory_is_told_from_its_peaks(growth: int, passes: bool) -> None:
    samples = [(float(second), 50_000_000 + growth * second + 9_000_000 * (second % 10 == 0)) for second in range(900)]
    assert judge_memory(samples, 4 << 20).passed is passes

"""The machine for one object, scenario by scenario: one input, then drain."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer import errors
from tailer.core import crc64
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
    Failed,
    Fetch,
    Gone,
    Grew,
    Head,
    Receive,
    Replaced,
    Rewound,
    Sealed,
    Stop,
    Truncated,
    Unconfirmed,
    Unproven,
    Verified,
    Wait,
)
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Claim, Link, Mark, ObjectMeta, Position
from tailer.core.ranges import ByteRange
from tailer.core.schedule import Pace
from tailer.core.tail import Tail
from tests.core.playing import (
    FORMER,
    LATTER,
    REF,
    Player,
    Service,
    flip_crc,
    flip_data,
    missing,
    out_of_range,
    refused,
    replaced_between_proofs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = TailOptions(follow=Follow.NAME, retry=True, pace=Pace(1.0, 4.0, 3))
DESCRIPTOR = changed(NAME, follow=Follow.DESCRIPTOR, retry=False)
ONCE = TailOptions()
GET = changed(NAME, poll=Poll.GET)
LINES = changed(NAME, delimiter=b"\n")
SMALL = changed(NAME, max_window=10, max_depth=4)

every_way = pytest.mark.parametrize("options", [NAME, GET, changed(NAME, integrity=Integrity.OFF)], ids=str)


def position(data: bytes, generation: int = 0) -> Position:
    """The end of `data`, proven."""
    return Position(len(data), crc64.update(data), generation)


def mark(data: bytes, generation: int = 0) -> Mark:
    return Mark.at(position(data, generation))


def follow(data: bytes | None, options: TailOptions = NAME, start: Mark | None = None, **more: Any) -> Player:
    """A player that has come to rest on an object that holds `data`."""
    player = Player(Service(data), options, start, **more)
    player.settle()
    return player


# --- reading


def test_a_small_object_costs_one_head_and_one_get_and_is_proven() -> None:
    player = Player(Service(b"hello"), ONCE)
    assert player.settle() == Stop()
    assert player.held() == b"hello"
    assert (player.asked(Head), player.asked(Fetch)) == (1, 1)
    assert [batch.verified for batch in player.batches()] == [True]
    assert player.of(Verified) == [Verified(position(b"hello"))]
    assert player.tail.mark == mark(b"hello")


def test_a_batch_says_where_it_belongs() -> None:
    batch = follow(b"hello").batches()[0]
    assert (batch.object, batch.generation, batch.start, batch.end) == (REF, 0, 0, 5)


def test_catching_up_asks_for_several_windows_at_once_and_hands_them_on_in_order() -> None:
    data = bytes(range(256)) * 2
    player = follow(data, SMALL)
    assert player.most_under_way > 1
    assert player.held() == data
    assert [batch.verified for batch in player.batches()[:-1]] == [False] * (len(player.batches()) - 1)
    assert player.batches()[-1].verified
    assert player.tail.mark == mark(data)


def test_the_mark_keeps_delivered_and_verified_apart_while_catching_up() -> None:
    player = Player(Service(bytes(100)), SMALL)
    while player.tail.mark.delivered.offset < 50:
        player.step()
    assert player.tail.mark.verified == Position()
    assert player.tail.mark.delivered == position(bytes(player.tail.mark.delivered.offset))


@every_way
def test_growth_at_the_tail_is_one_more_get_of_the_new_bytes(options: TailOptions) -> None:
    player = follow(b"one", options)
    player.forget()
    player.service.data = b"onetwo"
    player.poll()
    assert player.held() == b"onetwo"
    assert [batch.data for batch in player.batches()] == [b"two"]
    assert player.asked(Fetch) == 1
    assert player.news() == []


def test_an_object_that_grows_while_it_is_read_is_read_to_its_end() -> None:
    player = Player(Service(bytes(40)), SMALL)
    for _ in range(100):
        player.step()
        player.service.data = bytes(min(400, len(player.service.data or b"") + 7))
    player.settle()
    assert player.held() == bytes(400)
    assert player.tail.mark == mark(bytes(400))


def test_following_without_news_asks_head_alone_ever_more_rarely() -> None:
    player = follow(b"x")
    player.forget()
    waits = []
    for _ in range(8):
        before = player.now
        player.poll()
        waits.append(player.now - before)
    assert waits == [1.0, 1.0, 1.0, 1.0, 1.5, 2.25, 3.375, 4.0]
    assert (player.asked(Head), player.asked(Fetch)) == (8, 0)
    assert player.events == []


def test_news_make_the_polls_fast_again() -> None:
    player = follow(b"x")
    for _ in range(8):
        player.poll()
    player.service.data = b"xy"
    player.poll()
    assert player.tail.next_action(player.now) == Wait(player.now + 1.0)


def test_polling_by_get_never_asks_head() -> None:
    player = follow(b"one", GET)
    for data in (b"one", b"onetwo", b"onetwo", b"onetwothree"):
        player.service.data = data
        player.poll()
    player.service.data = None
    player.poll()
    player.service.data = b"new"
    player.poll()
    assert player.asked(Head) == 0
    assert (player.held(0), player.held(1)) == (b"onetwothree", b"new")


@pytest.mark.parametrize("options", [GET, changed(GET, follow=Follow.DESCRIPTOR, retry=False)])
def test_polling_by_get_sees_that_an_empty_object_is_sealed(options: TailOptions) -> None:
    """Whether before it was read, or later: a refused GET says nothing of it."""
    player = Player(Service(b"", sealed=True), options)
    player.settle()
    assert player.poll() == Stop()
    assert player.news() == [Sealed(0)]
    player = follow(b"", options)
    player.poll()
    player.service.sealed = True
    assert player.poll() == Stop()
    assert player.news() == [Sealed(0)]


def test_an_empty_object_costs_one_request_a_poll_whichever_way() -> None:
    for options in (NAME, GET):
        player = follow(b"", options)
        player.forget()
        for _ in range(20):
            player.poll()
        assert player.asked(Head) + player.asked(Fetch) == 20
        assert player.news() == []


def test_polling_by_get_asks_head_only_while_the_object_is_empty() -> None:
    player = follow(b"", GET)
    player.poll()
    player.service.data = b"first"
    player.poll()
    player.forget()
    for data in (b"first", b"first, second", None, b"another"):
        player.service.data = data
        player.poll()
    assert player.asked(Head) == 0
    assert (player.held(0), player.held(1)) == (b"first, second", b"another")


def test_an_empty_object_is_no_error() -> None:
    for options in (NAME, GET):
        player = follow(b"", options)
        assert player.news() == player.batches() == []
        assert player.tail.idle
        player.service.data = b"first"
        player.poll()
        assert player.held() == b"first"
    assert Player(Service(b""), ONCE).settle() == Stop()


def test_one_shot_ends_at_the_end_of_the_last_answer() -> None:
    player = Player(Service(bytes(30)), changed(SMALL, follow=Follow.NO))
    while not player.batches():
        player.step()
    player.service.data = bytes(50)
    assert player.settle() == Stop()
    assert player.held() == bytes(50)


def test_the_size_is_the_high_water_mark() -> None:
    player = Player(Service(b"abc"), NAME)
    assert player.tail.size is None
    player.settle()
    assert player.tail.size == 3
    player.service.data = None
    player.poll()
    assert player.tail.size is None


def test_growth_is_told_once_and_again_for_the_next_generation() -> None:
    player = follow(b"abc")
    player.poll()
    player.service.put(b"de", type="Normal")
    player.poll()
    assert player.of(Grew) == [Grew(0, 0, 3), Grew(1, 0, 2)]


def test_sealed_is_the_end_after_all_bytes() -> None:
    for options in (NAME, GET):
        player = follow(b"one", options)
        player.service.put(b"onetwo", sealed=True)
        assert player.poll() == Stop()
        assert player.held() == b"onetwo"
        assert player.events[-1] == Sealed(6)


def test_sealed_without_news_is_the_end_too() -> None:
    player = follow(b"one")
    player.service.sealed = True
    assert player.poll() == Stop()
    assert player.news() == [Sealed(3)]


def test_wake_polls_at_once() -> None:
    player = follow(b"one")
    player.service.data = b"onetwo"
    player.tail.wake(player.now)
    assert not player.tail.idle
    player.settle()
    assert player.held() == b"onetwo"
    assert player.now == 0.0


def test_exit_idle_ends_a_follow_when_nothing_new_came_for_so_long() -> None:
    player = follow(b"one", changed(NAME, exit_idle=2.5))
    player.poll()
    player.service.data = b"onetwo"
    player.poll()
    assert player.now == 2.0
    while not isinstance(player.poll(), Stop):
        assert player.now < 10
    assert player.now == 4.5
    assert player.tail.next_action(player.now) == Stop()


def test_exit_idle_hands_on_the_last_unfinished_record() -> None:
    player = follow(b"one\ntw", changed(LINES, exit_idle=2.5))
    assert player.held() == b"one\n"
    while not isinstance(player.poll(), Stop):
        pass
    assert player.held() == b"one\ntw"
    assert player.tail.mark == mark(b"one\ntw")


def test_exit_idle_hands_on_nothing_unproven_of_an_object_that_went_while_it_was_read() -> None:
    """Half a record of an object that is gone, and no statement ever covered it."""
    player = Player(Service(b"a\n" + b"b" * 98), changed(SMALL, delimiter=b"\n", exit_idle=5.0))
    while player.tail.mark.delivered.offset < 2 or len(player.under_way) < 2:
        player.step()
    player.service.data = None
    player.settle()
    while not isinstance(player.poll(), Stop):
        pass
    assert player.held() == b"a\n"
    assert [type(event) for event in player.news()] == [Gone]


# --- a HEAD decides nothing alone


def test_a_stale_head_does_no_harm() -> None:
    player = follow(b"onetwo")
    player.forget()
    player.service.heads.append(ObjectMeta(3, crc64.update(b"one"), "Appendable", etag="1"))
    player.poll()
    assert player.news() == player.batches() == []
    assert player.asked(Fetch) == 1
    assert isinstance(player.settle(), Wait)


def test_a_stale_head_of_the_object_before_this_one_does_no_harm() -> None:
    """Its type says that everything changed; the GET says that nothing did."""
    player = follow(b"onetwo")
    for stale in (ObjectMeta(9, 1, "Normal"), ObjectMeta(6, 1, "Normal"), ObjectMeta(2, 1, "Normal")):
        player.service.heads.append(stale)
        player.poll()
    assert player.news() == []
    assert player.held() == b"onetwo"


def test_a_head_that_is_ahead_of_get_is_tried_again_ever_more_slowly() -> None:
    """Two views that contradict each other for ever: no conclusion, no error, and no storm of requests."""
    player = follow(b"one")
    player.service.heads.extend([ObjectMeta(9, 1, "Appendable")] * 40)
    before = player.now
    player.poll()
    assert not player.of(Replaced, Truncated, Rewound)
    assert player.now - before > 300
    assert player.asked(Head) < 60


def test_one_shot_gives_up_on_a_head_that_get_denies() -> None:
    player = Player(Service(b""), ONCE)
    player.service.heads.extend([ObjectMeta(9, 1, "Appendable")] * 40)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.RangeNotSatisfiable)
    assert player.asked(Head) <= 6


def test_a_head_that_was_stale_once_is_forgotten_when_the_views_agree() -> None:
    player = follow(b"one")
    player.service.heads.append(ObjectMeta(9, 1, "Appendable"))
    player.poll()
    player.forget()
    player.service.heads.append(ObjectMeta(3, 1, "Appendable"))
    player.service.gets.append(out_of_range())
    player.poll()
    assert not player.of(Truncated)


# --- another object under the name

replacements = pytest.mark.parametrize(
    ("new", "attributes"),
    [
        (b"longer than before, and other", {}),
        (b"ABCDEFGH", {}),
        (b"abcdefgX", {}),
        (b"abcdefgh", {"type": "Normal"}),
        (b"abcdefgh and more", {"type": "Normal"}),
        (b"abcdefgh", {"version_id": "2"}),
        (b"abc", {"type": "Normal"}),
        (b"", {"type": "Normal"}),
    ],
)


@replacements
@pytest.mark.parametrize("poll", list(Poll))
def test_a_replaced_object_is_followed_from_its_start(new: bytes, attributes: dict[str, str], poll: Poll) -> None:
    player = Player(Service(b"abcdefgh", version_id="1"), changed(NAME, poll=poll))
    player.settle()
    player.service.put(new, **attributes)
    player.poll()
    player.poll()
    assert player.held(0) == b"abcdefgh"
    assert player.held(1) == new
    assert len(player.of(Replaced, Truncated)) == 1
    assert player.of(Rewound) == []
    assert player.tail.mark == mark(new, 1)


@replacements
@pytest.mark.parametrize("poll", list(Poll))
def test_a_followed_descriptor_ends_with_it(new: bytes, attributes: dict[str, str], poll: Poll) -> None:
    player = Player(Service(b"abcdefgh", version_id="1"), changed(DESCRIPTOR, poll=poll))
    player.settle()
    player.service.put(new, **attributes)
    player.poll()
    stop = player.poll()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectReplaced)
    assert player.held() == b"abcdefgh"
    assert player.tail.mark == mark(b"abcdefgh")


@pytest.mark.parametrize("poll", list(Poll))
def test_a_shorter_object_is_truncated_when_two_answers_say_so(poll: Poll) -> None:
    player = follow(b"abcdefgh", changed(NAME, poll=poll))
    player.service.data = b"abc"
    player.poll()
    player.poll()
    size = 3 if poll is Poll.HEAD else None
    assert player.of(Truncated, Replaced) == [Truncated(1, 8, size)]
    assert player.held(1) == b"abc"


def test_the_reason_of_a_replacement_is_told() -> None:
    player = follow(b"abc")
    player.service.put(b"abc", type="Normal")
    player.poll()
    assert player.of(Replaced) == [Replaced(1, "its type was Appendable and is Normal")]


def test_answers_that_alternate_between_two_objects_never_spin() -> None:
    """Two replicas that disagree for ever on what stands there: each answer replaces the one before."""
    player = Player(Service(b"abc"), GET)
    types = ["Appendable", "Normal"] * 200
    player.service.gets.extend(lambda window, t=t: (window[0], window[1], changed(window[2], type=t)) for t in types)
    for _ in range(400):
        player.step()
        if isinstance(player.actions[-1], Wait):
            player.now = player.actions[-1].until
    assert player.now > 100
    assert len(player.of(Replaced)) < 200


def test_a_replacement_while_catching_up_rewinds_and_hands_on_the_new_object() -> None:
    """Nothing was proven yet, so there was no generation to end."""
    old, new = b"o" * 100, b"n" * 120
    player = Player(Service(old), SMALL)
    while player.tail.mark.delivered.offset < 40:
        player.step()
    player.service.put(new)
    player.settle()
    rewound = player.of(Rewound)
    assert len(rewound) == 1
    assert rewound[0].to == 0
    assert player.held(player.tail.generation) == new


def test_what_the_second_reading_handed_out_is_void_before_the_word_of_the_replacement() -> None:
    """Behind a proven prefix, a long other object: its bytes must not stay under the old generation's name."""
    player = follow(b"p" * 10, SMALL)
    player.service.put(b"n" * 100)
    player.settle()
    player.poll()
    assert player.held(0)[:10] == b"p" * 10
    kinds = [type(event) for event in player.of(Rewound, Replaced)]
    assert kinds[-2:] == [Rewound, Replaced]
    last = player.of(Rewound)[-1]
    assert (last.generation, last.to) == (0, 10)
    assert player.held(1) == b"n" * 100


def test_a_proof_that_a_rewind_reaches_behind_is_told_again_as_far_as_it_stands() -> None:
    """To a place that is proven, but between two proofs: whoever keeps the last one that was told knows no other."""
    player = replaced_between_proofs(NAME)
    told = [Verified(position(FORMER[:15])), Rewound(0, 10, 20), Verified(position(FORMER[:10]))]
    assert player.of(Verified, Rewound)[:3] == told
    assert player.of(Verified) == [told[0], told[2], Verified(position(LATTER, 1))]
    assert (player.held(0)[:10], player.held(1)) == (FORMER[:10], LATTER)


def test_a_rewind_to_the_last_proof_or_to_nothing_tells_no_proof_again() -> None:
    player, _ = catching_up(changed(SMALL, max_depth=1))
    player.service.put(b"n" * 200)
    player.settle()
    assert player.of(Rewound)[0].to == 10
    assert player.of(Verified) == [Verified(position(b"p" * 10)), Verified(position(b"n" * 200, 1))]
    player = Player(Service(b"o" * 100), changed(SMALL, max_depth=1))
    player.service.gets.append(flip_data(3))
    player.settle()
    assert player.of(Verified, Rewound) == [Rewound(0, 0, 90), Verified(position(b"o" * 100))]


def test_a_rewind_to_the_beginning_of_a_long_record_tells_no_proof_of_nothing() -> None:
    """Two pieces of it were handed out, 15 bytes were proven, and there is no other place to go back to."""
    player = replaced_between_proofs(changed(NAME, delimiter=b"\xff", max_record=4))
    assert player.of(Verified, Rewound)[:2] == [Verified(position(FORMER[:15])), Rewound(0, 0, 16)]
    assert player.of(Verified)[1:] == [Verified(position(LATTER))]


def test_beginning_anew_tells_the_proof_that_stands_there() -> None:
    """Of 20 bytes that were handed out ten were taken, and 15 are proven."""
    data = bytes(range(20))
    tail = Tail(REF, changed(NAME, integrity=Integrity.STRICT, max_window=10, max_depth=1))
    assert tail.next_action(0.0) == Head()
    tail.observe(ObjectMeta(15, crc64.update(data[:15])), 0.0)
    assert tail.next_action(0.0) == Fetch(ByteRange(0, 10))
    tail.receive(0, data[:10], ObjectMeta(15, crc64.update(data[:15])), 0.0)
    tail.acknowledge(next(event for event in tail.events() if isinstance(event, Batch)))
    assert tail.next_action(0.0) == Fetch(ByteRange(10, 20))
    tail.receive(10, data[10:], ObjectMeta(30, 1), 0.0)
    assert list(tail.events())[-1] == Verified(position(data[:15]))
    tail.begin_anew(0.0)
    assert list(tail.events()) == [Verified(position(data[:10]))]
    assert tail.mark == mark(data[:10])


def test_a_descriptor_that_breaks_while_catching_up_takes_the_mark_back() -> None:
    player = follow(b"p" * 10, changed(SMALL, follow=Follow.DESCRIPTOR, retry=False))
    player.service.put(b"n" * 100)
    stop = player.poll()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectReplaced)
    assert player.tail.mark == mark(b"p" * 10)


def catching_up(options: TailOptions) -> tuple[Player, int]:
    """Ten bytes are proven, and more were handed out: up to which offset."""
    player = follow(b"p" * 10, options)
    assert player.service.data is not None
    player.service.data += b"o" * 100
    action = player.tail.next_action(player.now)
    assert isinstance(action, Wait)
    player.now = action.until
    while player.tail.mark.delivered.offset < 40:
        player.step()
    return player, player.tail.mark.delivered.offset


def test_a_descriptor_that_shrinks_while_catching_up_says_what_was_never_proven() -> None:
    player, end = catching_up(changed(SMALL, follow=Follow.DESCRIPTOR, retry=False))
    assert player.service.data is not None
    player.service.data = player.service.data[:12]
    while isinstance(stop := player.poll(), Wait):
        pass
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectReplaced)
    told = f"truncated to 12 bytes after {end} were read; bytes 10 to {end} of it went out and were never proven"
    assert str(stop.error).startswith(f"{REF}: {told}")


@pytest.mark.parametrize("integrity", list(Integrity))
def test_a_name_whose_object_goes_while_catching_up_says_what_was_never_proven(integrity: Integrity) -> None:
    """But where nobody asked for a proof (off), or where it was kept back (strict)."""
    player, end = catching_up(changed(SMALL, follow=Follow.NAME, retry=True, integrity=integrity))
    player.service.put(b"new", etag="2")
    for _ in range(10):
        player.poll()
    unconfirmed = [Unconfirmed(0, 10, end)] if integrity in (Integrity.CHAIN, Integrity.FULL) else []
    told = player.of(Unconfirmed, Replaced, Truncated)
    assert told[:-1] == unconfirmed
    assert isinstance(told[-1], Replaced | Truncated)
    assert player.held(1) == b"new"


def test_a_descriptor_that_is_deleted_while_catching_up_says_what_was_never_proven() -> None:
    player, end = catching_up(changed(SMALL, follow=Follow.DESCRIPTOR, retry=False))
    player.service.data = None
    while isinstance(stop := player.poll(), Wait):
        pass
    assert isinstance(stop, Stop)
    assert player.of(Unconfirmed, Gone) == [Unconfirmed(0, 10, end), Gone(0, end)]


# --- gone, and back


@pytest.mark.parametrize("poll", list(Poll))
def test_gone_is_told_once_and_another_object_appears_as_the_next_generation(poll: Poll) -> None:
    player = follow(b"abc", changed(NAME, poll=poll))
    player.service.data = None
    for _ in range(3):
        player.poll()
    assert player.news() == [Gone(0, 3)]
    player.service.put(b"defgh", etag="2")
    player.poll()
    assert [type(event) for event in player.news()] == [Gone, Appeared]
    assert player.held(1) == b"defgh"
    assert player.tail.mark == mark(b"defgh", 1)


@pytest.mark.parametrize("poll", list(Poll))
def test_gone_and_back_empty_is_a_new_object_and_no_truncation(poll: Poll) -> None:
    player = follow(b"abc", changed(NAME, poll=poll))
    player.service.data = None
    player.poll()
    player.service.put(b"", etag="2")
    player.poll()
    assert [type(event) for event in player.news()] == [Gone, Appeared]
    assert player.tail.mark == mark(b"", 1)


@pytest.mark.parametrize("poll", list(Poll))
def test_the_very_same_object_again_is_no_new_generation(poll: Poll) -> None:
    player = follow(b"abc", changed(NAME, poll=poll))
    player.service.data = None
    player.poll()
    player.service.data = b"abc"
    player.poll()
    player.service.data = b"abcdef"
    player.poll()
    assert player.news() == [Gone(0, 3)]
    assert player.held() == b"abcdef"


@pytest.mark.parametrize("poll", list(Poll))
def test_an_object_that_is_waited_for_appears(poll: Poll) -> None:
    player = follow(None, changed(NAME, poll=poll))
    assert player.news() == [Gone(0, 0)]
    player.service.data = b"abc"
    player.poll()
    assert [type(event) for event in player.news()] == [Gone, Appeared]
    assert player.tail.mark == mark(b"abc")


@pytest.mark.parametrize("options", [ONCE, DESCRIPTOR, changed(NAME, retry=False)], ids=str)
def test_a_missing_object_that_is_not_waited_for_is_the_end(options: TailOptions) -> None:
    player = Player(Service(None), options)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectNotFound)
    assert player.events == []


@pytest.mark.parametrize("options", [DESCRIPTOR, changed(DESCRIPTOR, retry=True), changed(NAME, retry=False)], ids=str)
def test_an_object_that_goes_while_nobody_waits_is_told_and_is_the_end(options: TailOptions) -> None:
    player = follow(b"abc", options)
    player.service.data = None
    stop = player.poll()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectNotFound)
    assert player.news() == [Gone(0, 3)]


def test_retry_waits_for_the_first_appearance_of_a_descriptor() -> None:
    player = follow(None, changed(DESCRIPTOR, retry=True))
    player.service.data = b"abc"
    player.poll()
    assert player.held() == b"abc"


def test_a_missing_bucket_is_not_waited_for() -> None:
    player = Player(Service(b""), NAME)
    player.service.heads.append(errors.BucketNotFound("no such bucket", status=404))
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.BucketNotFound)


def test_a_404_in_the_middle_of_catching_up_drops_the_plan() -> None:
    player = Player(Service(bytes(100)), SMALL)
    while player.tail.mark.delivered.offset < 40:
        player.step()
    player.service.data = None
    player.settle()
    assert not player.under_way
    player.service.put(b"new", etag="2")
    player.poll()
    assert player.held(1) == b"new"


# --- spoilt on the way


@pytest.mark.parametrize("spoil", [flip_data(0), flip_crc])
@pytest.mark.parametrize("poll", list(Poll))
def test_one_spoilt_answer_at_the_tail_is_read_again_without_a_word(spoil: Callable[..., Any], poll: Poll) -> None:
    player = Player(Service(b"hello"), changed(NAME, poll=poll))
    player.service.gets.append(spoil)
    player.settle()
    assert player.held() == b"hello"
    assert player.news() == []
    player.service.gets.append(spoil)
    player.service.data = b"hello, world"
    player.poll()
    assert player.held() == b"hello, world"
    assert player.news() == []
    assert player.tail.mark == mark(b"hello, world")


def test_a_spoilt_window_while_catching_up_rewinds_to_the_last_proof() -> None:
    data = bytes(range(100))
    player = Player(Service(data), SMALL)
    player.service.gets.extend([None, None, flip_data(3)])
    player.settle()
    assert [(event.generation, event.to) for event in player.of(Rewound)] == [(0, 0)]
    assert player.held() == data
    assert player.tail.mark == mark(data)


def test_a_rewind_goes_back_to_the_proof_and_no_further() -> None:
    player = follow(bytes(50), SMALL)
    player.service.data = bytes(50) + bytes(range(100))
    player.service.gets.extend([None, None, flip_data(3)])
    player.poll()
    assert player.of(Rewound)[0].to == 50
    assert player.held() == player.service.data


def test_an_object_that_never_agrees_with_its_crc_is_broken_and_proves_nothing() -> None:
    player = Player(Service(b"hello"), NAME)
    player.service.gets.extend([flip_crc] * 50)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ChainBroken)
    assert "twice alike" in str(stop.error)
    assert player.batches() == []
    assert player.tail.mark == Mark()
    assert player.asked(Fetch) == 2


def test_readings_that_never_agree_with_each_other_end_after_a_few_with_pauses() -> None:
    player = Player(Service(bytes(100)), NAME)
    player.service.gets.extend(flip_data(i) for i in range(50))
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ChainBroken)
    assert "never agree" in str(stop.error)
    assert player.asked(Fetch) == 6
    assert player.now > 1.0


def test_a_broken_end_of_a_long_object_takes_back_what_went_out() -> None:
    player = Player(Service(bytes(100)), SMALL)
    player.service.gets.extend([flip_crc] * 500)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ChainBroken)
    assert player.of(Rewound)[-1].to == 0
    assert player.tail.mark == Mark()


def test_corruption_behind_a_proof_is_taken_for_another_object_and_then_for_what_it_is() -> None:
    player = follow(b"good")
    player.service.data = b"good and bad"
    player.service.gets.extend([flip_crc] * 50)
    stop = player.poll()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ChainBroken)
    assert [type(event) for event in player.news()] == [Replaced]
    assert player.held(0) == b"good"


# --- no CRC


def test_a_missing_crc_stops_before_the_first_byte() -> None:
    for options in (NAME, GET, ONCE):
        player = Player(Service(b"hello", crc=False), options)
        stop = player.settle()
        assert isinstance(stop, Stop)
        assert isinstance(stop.error, errors.CrcMissing)
        assert player.batches() == []


def test_without_integrity_a_missing_crc_is_said_once() -> None:
    player = Player(Service(b"hello", crc=False), changed(NAME, integrity=Integrity.OFF))
    for data in (b"hello", b"hello, world", b"hello, world."):
        player.service.data = data
        player.tail.wake(player.now)
        player.settle()
    assert player.held() == b"hello, world."
    assert player.news() == [Unproven(0, 0)]
    assert not any(batch.verified for batch in player.batches())


def test_without_integrity_nothing_is_called_verified_nor_checked() -> None:
    player = Player(Service(b"hello"), changed(NAME, integrity=Integrity.OFF))
    player.service.gets.append(flip_crc)
    player.settle()
    assert player.held() == b"hello"
    assert not player.of(Verified)
    assert not player.batches()[0].verified
    assert player.tail.mark == Mark(Position(5, None), Position())


def test_without_integrity_a_long_follow_keeps_nothing_of_what_it_handed_out() -> None:
    player = follow(b"", changed(NAME, integrity=Integrity.OFF))
    for size in range(1, 300):
        player.service.data = bytes(size)
        player.poll()
    assert len(player.tail._ends) <= 1
    assert not player.tail._emitted


# --- refusals


def test_a_refusal_is_told_and_tried_again_with_growing_pauses() -> None:
    player = Player(Service(b"hello"), NAME)
    player.service.heads.extend([refused()] * 5)
    player.settle()
    failed = player.of(Failed)
    assert [event.attempt for event in failed] == [1, 2, 3, 4, 5]
    assert [event.delay for event in failed] == sorted(event.delay for event in failed)
    assert player.held() == b"hello"


def test_a_success_begins_the_count_anew() -> None:
    player = Player(Service(b"hello"), NAME)
    player.service.heads.extend([refused(), refused()])
    player.settle()
    player.service.heads.append(refused())
    player.poll()
    assert [event.attempt for event in player.of(Failed)] == [1, 2, 1]


def test_retry_after_is_respected() -> None:
    player = Player(Service(b"hello"), NAME)
    player.service.heads.append(refused(retry_after=42.0))
    player.step()
    assert player.tail.next_action(player.now) == Wait(42.0)
    player.settle()
    assert player.of(Failed)[0].delay == 42.0
    assert player.now == 42.0


def test_a_wake_does_not_break_the_pause_that_the_service_asked_for() -> None:
    player = Player(Service(b"hello"), NAME)
    player.service.heads.append(refused(retry_after=42.0))
    player.step()
    player.tail.wake(1.0)
    assert player.tail.next_action(1.0) == Wait(42.0)


def test_a_refused_window_is_asked_for_again_and_nothing_is_lost_or_doubled() -> None:
    data = bytes(range(200))
    player = Player(Service(data), SMALL)
    lost = errors.ConnectionLost("the body was cut")
    player.service.gets.extend([None, lost, None, None, refused(), refused(), None])
    player.settle()
    assert player.held() == data
    assert player.of(Rewound) == []
    assert len(player.of(Failed)) == 3


@pytest.mark.parametrize("options", [ONCE, DESCRIPTOR, changed(NAME, retry=False)], ids=str)
def test_tries_are_bounded_where_nobody_said_to_wait(options: TailOptions) -> None:
    player = Player(Service(b"hello"), options)
    player.service.heads.extend([refused()] * 50)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.Throttled)
    assert player.asked(Head) == options.attempts


def test_one_shot_bounds_the_tries_of_a_window_too() -> None:
    player = Player(Service(b"hello"), ONCE)
    player.service.gets.extend([refused()] * 50)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.Throttled)
    assert player.asked(Fetch) == ONCE.attempts


@pytest.mark.parametrize("script", ["heads", "gets"])
def test_an_answer_that_no_oss_gives_is_not_tried_for_ever(script: str) -> None:
    player = Player(Service(b"hello"), NAME)
    getattr(player.service, script).extend([errors.RangeIgnored("200")] * 50)
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.RangeIgnored)
    assert len(player.of(Failed)) == 3 * NAME.attempts - 1


def test_a_refusal_that_no_retry_helps_is_the_end() -> None:
    player = follow(b"hello")
    player.service.heads.append(errors.AccessDenied("no", status=403))
    stop = player.poll()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.AccessDenied)


# --- resuming


def test_a_resume_costs_one_head_when_nothing_is_new() -> None:
    player = follow(b"hello", NAME, mark(b"hello"))
    assert (player.asked(Head), player.asked(Fetch)) == (1, 0)
    assert player.batches() == player.news() == []


@pytest.mark.parametrize("poll", list(Poll))
def test_a_resume_reads_only_what_is_new(poll: Poll) -> None:
    player = follow(b"hello, world", changed(NAME, poll=poll), mark(b"hello"))
    assert player.held() == b", world"
    assert player.tail.mark == mark(b"hello, world")


def test_a_resume_goes_on_from_delivered_and_proves_what_lies_between() -> None:
    data = b"0123456789"
    start = Mark(delivered=position(data[:6]), verified=position(data[:2]))
    player = follow(data, NAME, start)
    assert player.held() == b"6789"
    assert player.tail.mark == mark(data)


def test_a_resume_from_wrong_bytes_goes_back_to_verified() -> None:
    """What was delivered unverified before the crash was wrong: it is void, and told to be."""
    data = b"0123456789"
    start = Mark(delivered=position(b"01WRON"), verified=position(data[:2]))
    player = Player(Service(data), NAME, start)
    player.settle()
    assert player.of(Rewound) == [Rewound(0, 2, 6)]
    assert [bytes(batch.data) for batch in player.batches()] == [b"23456789"]
    assert player.tail.mark == mark(data)


@pytest.mark.parametrize("poll", list(Poll))
@pytest.mark.parametrize("data", [b"another", b"hell", b"HELLO", b"", b"something longer than that"])
@pytest.mark.parametrize("kind", [Follow.NO, Follow.DESCRIPTOR])
def test_a_mark_of_another_object_is_refused_and_nothing_handed_out(data: bytes, kind: Follow, poll: Poll) -> None:
    player = Player(Service(data), changed(DESCRIPTOR, follow=kind, poll=poll), mark(b"hello"))
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectReplaced)
    assert player.batches() == []
    assert player.tail.mark == mark(b"hello")


def test_a_mark_of_another_object_starts_a_followed_name_over_in_the_next_generation() -> None:
    player = follow(b"another", NAME, mark(b"hello", generation=4))
    assert player.held(5) == b"another"
    assert player.tail.mark == mark(b"another", 5)
    assert [type(event) for event in player.news()] == [Replaced]


def test_a_start_in_the_middle_is_tied_by_the_statement_that_chose_it() -> None:
    data = b"0123456789"
    anchor = Link(8, crc64.update(data[:8]))
    player = follow(data, NAME, Mark.at(Position(4, None)), links=[anchor])
    assert player.held() == b"456789"
    claimed = changed(position(data), claim=Claim(4, 8, crc64.update(b"4567"), anchor.crc64))
    assert player.of(Verified) == [Verified(claimed)]
    assert player.tail.mark == Mark.at(claimed)


def test_a_start_in_the_middle_finds_out_that_the_object_was_replaced_meanwhile() -> None:
    old, new = b"0123456789", b"abcdefghijklmn"
    anchor = Link(8, crc64.update(old[:8]))
    player = Player(Service(new), ONCE, Mark.at(Position(4, None)), links=[anchor])
    stop = player.settle()
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, errors.ObjectReplaced)
    assert player.batches() == []


def test_a_start_at_the_end_reads_nothing_and_is_tied_at_once() -> None:
    data = b"0123456789"
    player = follow(data, NAME, Mark.at(Position(10, None)), links=[Link(10, crc64.update(data))])
    assert (player.asked(Head), player.asked(Fetch)) == (1, 0)
    player.service.data = data + b"more"
    player.poll()
    assert player.held() == b"more"
    assert player.batches()[0].verified


def test_a_loose_chain_does_not_trust_a_replacement_because_it_must_read_again() -> None:
    """No anchor was given; what tied the chain first must still hold when it is read again from before."""
    old = b"one\ntwo\nthr"
    player = follow(old, LINES, Mark.at(Position(4, None)))
    assert player.held() == b"two\n"
    player.service.put(b"ONE\nTWO\nTHREE\n")
    player.poll()
    player.poll()
    assert len(player.of(Replaced)) == 1
    assert player.held(1) == b"ONE\nTWO\nTHREE\n"


def test_a_start_in_the_middle_has_only_verified_batches_behind_its_tie() -> None:
    player = follow(b"0123456789", NAME, Mark.at(Position(4, None)))
    player.service.data = b"0123456789abc"
    player.poll()
    assert [batch.verified for batch in player.batches()] == [False, True]


# --- the mark


def test_a_batch_is_acknowledged_once_and_in_order() -> None:
    tail = Tail(REF, SMALL)
    tail.next_action(0.0)
    data = bytes(100)
    tail.observe(ObjectMeta(100, crc64.update(data)), 0.0)
    batches: list[Batch] = []
    while len(batches) < 2:
        action = tail.next_action(0.0)
        assert isinstance(action, Fetch | Receive)
        if isinstance(action, Receive):
            start = 10 * len(batches)
            tail.receive(start, data[start : start + 10], ObjectMeta(100, crc64.update(data)), 0.0)
            batches += [event for event in tail.events() if isinstance(event, Batch)]
    first, second = batches
    with pytest.raises(ValueError, match="not what was handed out next"):
        tail.acknowledge(second)
    tail.acknowledge(first)
    with pytest.raises(ValueError, match="not what was handed out next"):
        tail.acknowledge(first)
    with pytest.raises(ValueError, match="not what was handed out next"):
        tail.acknowledge(changed(second, end=second.end + 1))
    with pytest.raises(ValueError, match="not what was handed out next"):
        tail.acknowledge(changed(second, generation=1))
    tail.acknowledge(second)
    assert tail.mark.delivered == position(data[:20])
    with pytest.raises(ValueError, match="not what was handed out next"):
        tail.acknowledge(changed(second, start=20, end=30))


def test_the_mark_does_not_move_without_an_acknowledgement() -> None:
    tail = Tail(REF, NAME)
    tail.next_action(0.0)
    tail.observe(ObjectMeta(5, crc64.update(b"hello")), 0.0)
    tail.next_action(0.0)
    tail.receive(0, b"hello", ObjectMeta(5, crc64.update(b"hello")), 0.0)
    assert tail.mark == Mark()
    batch = next(event for event in tail.events() if isinstance(event, Batch))
    assert tail.mark == Mark()
    tail.acknowledge(batch)
    assert tail.mark == mark(b"hello")


@pytest.mark.parametrize(
    ("start", "data", "size"), [(1, b"ello", 5), (0, b"", 5), (0, b"hello", 4), (0, bytes(11), 20), (-1, b"x", 5)]
)
def test_bytes_that_were_not_asked_for_are_refused(start: int, data: bytes, size: int) -> None:
    tail = Tail(REF, SMALL)
    tail.next_action(0.0)
    tail.observe(ObjectMeta(5, 1), 0.0)
    assert tail.next_action(0.0) == Fetch(ByteRange(0, 10))
    with pytest.raises(ValueError, match="in answer to"):
        tail.receive(start, data, ObjectMeta(size, 1), 0.0)


# --- records


def test_the_mark_stands_at_record_ends_only() -> None:
    player = follow(b"one\ntwo\nthr", LINES)
    assert player.held() == b"one\ntwo\n"
    assert player.tail.mark == mark(b"one\ntwo\n")
    assert player.of(Verified) == [Verified(position(b"one\ntwo\nthr"))]
    player.service.data = b"one\ntwo\nthree\nf"
    player.poll()
    assert player.held() == b"one\ntwo\nthree\n"
    assert player.tail.mark == mark(b"one\ntwo\nthree\n")


def test_records_are_cut_the_same_after_a_resume() -> None:
    data = b"one\ntwo\nthree\nfo"
    whole = follow(data, LINES)
    again = follow(data, LINES, mark(b"one\ntwo\n"))
    assert [r.start for b in whole.batches() for r in b.records][2:] == [
        r.start for b in again.batches() for r in b.records
    ]


def test_one_shot_hands_on_the_last_record_without_its_delimiter() -> None:
    player = Player(Service(b"one\ntwo"), changed(ONCE, delimiter=b"\n"))
    player.settle()
    assert player.held() == b"one\ntwo"
    assert player.tail.mark == mark(b"one\ntwo")


def test_inside_a_long_record_the_mark_is_delivered_but_verified_stays_at_the_record_s_start() -> None:
    options = changed(LINES, max_record=4)
    player = follow(b"a\nbcdefghijkl", options)
    assert player.held() == b"a\nbcdefghi"
    assert player.tail.mark == Mark(position(b"a\nbcdefghi"), Position(), inside=True)
    again = Player(Service(b"a\nbcdefghijkl\nm\n"), options, player.tail.mark)
    again.settle()
    records = [record for batch in again.batches() for record in batch.records]
    assert [(r.start, r.data, r.first, r.last) for r in records] == [
        (10, b"jkl", False, True),
        (14, b"m", True, True),
    ]
    assert again.tail.mark == mark(b"a\nbcdefghijkl\nm\n")


@pytest.mark.parametrize("poll", list(Poll))
@pytest.mark.parametrize("options", [NAME, DESCRIPTOR], ids=["name", "descriptor"])
@pytest.mark.parametrize(
    "replace",
    [
        lambda service: service.put(b"other content\n"),
        lambda service: service.put(b"ONE\nTWO"),
        lambda service: service.put(b"x"),
        lambda service: service.put(b"one\ntwo\n", type="Normal"),
    ],
    ids=["longer", "same size", "shorter", "type"],
)
def test_the_unfinished_record_of_a_replaced_object_is_handed_on_first(
    replace: Callable[[Service], None], options: TailOptions, poll: Poll
) -> None:
    """A log that was rotated away in the middle of a line: the line's beginning was proven, it is not lost."""
    player = follow(b"one\ntwo", changed(options, delimiter=b"\n", poll=poll))
    assert player.held() == b"one\n"
    replace(player.service)
    player.poll()
    player.poll()
    assert player.held(0) == b"one\ntwo"
    assert player.batches()[1].verified
    kinds = [type(event) for event in player.of(Batch, Replaced, Truncated)]
    if options is NAME:
        assert kinds[:3] in ([Batch, Batch, Replaced], [Batch, Batch, Truncated])
        assert player.tail.mark.delivered.generation == 1
    else:
        assert player.tail.mark == mark(b"one\ntwo")


def test_a_replacement_is_seen_that_differs_only_inside_the_unfinished_record() -> None:
    """Its records up to there are the same, but what was proven does not begin it: it is another object."""
    for options, kind in ((LINES, Replaced), (changed(DESCRIPTOR, delimiter=b"\n"), Stop)):
        player = follow(b"one\ntwo", options)
        player.service.put(b"one\nTWO more\n")
        stop = player.poll()
        assert player.held(0) == b"one\ntwo"
        assert isinstance((player.of(Replaced) or [stop])[0], kind)


def test_a_replacement_is_seen_although_no_record_has_ended_yet() -> None:
    """Nothing was handed out, but something was proven: this is no corruption."""
    player = follow(b"one", LINES)
    player.service.put(b"TWO and\n")
    player.poll()
    assert [type(event) for event in player.news()] == [Replaced]
    assert (player.held(0), player.held(1)) == (b"one", b"TWO and\n")


def test_a_spoilt_answer_does_not_cost_the_proven_beginning_of_a_record() -> None:
    """It is kept through the second reading, which begins behind it."""
    player = follow(b"one\ntwo", LINES)
    player.forget()
    player.service.gets.append(flip_crc)
    player.service.data = b"one\ntwo three\nfour"
    player.poll()
    assert [batch.data for batch in player.batches()] == [b"two three\n"]
    assert [action.range.start for action in player.actions if isinstance(action, Fetch)] == [7, 7]
    assert player.tail.mark == mark(b"one\ntwo three\n")


def test_what_was_never_read_stays_unproven_through_a_second_reading() -> None:
    data = b"0123456789"
    player = follow(data[:8], NAME, Mark.at(Position(4, None)))
    player.service.gets.append(flip_crc)
    player.service.data = data
    player.poll()
    assert [event.position.offset for event in player.of(Verified)] == [8, 10]
    assert [event.position.unproven for event in player.of(Verified)] == [8, 8]


def test_the_unfinished_record_of_a_deleted_object_is_handed_on_when_another_appears() -> None:
    player = follow(b"one\ntwo", LINES)
    player.service.data = None
    player.poll()
    assert player.held(0) == b"one\n"
    player.service.put(b"new\n", etag="2")
    player.poll()
    assert player.held(0) == b"one\ntwo"
    assert player.held(1) == b"new\n"


def test_the_unfinished_record_of_an_object_that_comes_back_is_not_cut_in_two() -> None:
    player = follow(b"one\ntwo", LINES)
    player.service.data = None
    player.poll()
    player.service.data = b"one\ntwo"
    player.poll()
    player.service.data = b"one\ntwo three\n"
    player.poll()
    assert [record.data for batch in player.batches() for record in batch.records] == [b"one", b"two three"]


def test_the_unfinished_record_of_a_deleted_object_is_handed_on_where_nobody_waits() -> None:
    player = follow(b"one\ntwo", changed(DESCRIPTOR, delimiter=b"\n"))
    player.service.data = None
    player.poll()
    assert player.held() == b"one\ntwo"
    assert isinstance(player.events[-1], Gone)


def test_a_sink_that_refuses_the_last_record_leaves_the_mark_before_it() -> None:
    player = follow(b"one\ntwo", LINES)
    player.service.put(b"other", type="Normal")
    player.now = 1.0
    events: list[Event] = []
    while not events:
        player.perform(player.tail.next_action(player.now))
        events = list(player.tail.events())
    assert [type(event) for event in events] == [Batch, Replaced, Grew]
    assert player.tail.mark == mark(b"one\n")
    player.tail.acknowledge(next(event for event in events if isinstance(event, Batch)))
    assert player.tail.mark == mark(b"", 1)


# --- it never spins


scripts = st.lists(
    st.sampled_from(
        [None, missing(), refused(), refused(3.0), out_of_range(), errors.RangeIgnored("200"), flip_crc, flip_data(0)]
    ),
    max_size=30,
)
head_scripts = st.lists(
    st.sampled_from(
        [None, missing(), refused(), ObjectMeta(0, 0), ObjectMeta(3, 5, "Normal"), ObjectMeta(10**6, 7, "Appendable")]
    ),
    max_size=30,
)
all_options = st.builds(
    TailOptions,
    follow=st.sampled_from(Follow),
    retry=st.booleans(),
    integrity=st.sampled_from(Integrity),
    poll=st.sampled_from(Poll),
    delimiter=st.sampled_from([None, b"\n"]),
    max_record=st.sampled_from([2, 1000]),
    pace=st.sampled_from([Pace(1.0, 5.0, 3), Pace(0.0, 0.0, 0)]),
    max_window=st.sampled_from([3, 64]),
    max_depth=st.integers(1, 4),
    exit_idle=st.sampled_from([None, 0.0, 7.0]),
)
lives = st.lists(st.sampled_from([None, b"", b"a", b"ab\ncd", b"ab\ncd\nefgh", b"AB\nCD"]), min_size=1, max_size=6)


@given(all_options, lives, head_scripts, scripts)
def test_it_never_spins_and_one_shot_always_ends(
    options: TailOptions, contents: list[bytes | None], heads: list[Any], gets: list[Any]
) -> None:
    """Whatever is answered: every Wait is for the future, and between two of them only so much is asked."""
    player = Player(Service(contents[0]), options)
    player.service.heads.extend(heads)
    player.service.gets.extend(gets)
    requests = 0
    for step in range(3000):
        if step % 40 == 0:
            player.service.data = contents[step // 40 % len(contents)] if step < 400 else contents[-1]
        action = player.step()
        requests = 0 if isinstance(action, Wait) else requests + isinstance(action, Head | Fetch)
        assert requests < 150, "a storm of requests without a breath"
        if isinstance(action, Stop):
            return
        if isinstance(action, Wait):
            player.now = action.until
    assert options.follow is not Follow.NO, "one-shot reading that never ends"


# --- what only the beginning can prove

FULL = changed(NAME, integrity=Integrity.FULL)
OLD = b"....aa\nbb\ncc\ndd\nee\nff\ngg\nhh\n"


def from_byte_4(options: TailOptions, tie: int, *spoilt: Any, data: bytes = OLD) -> Player:
    """A start at byte 4 that the statement on the first `tie` bytes ties; the answers are `spoilt` in turn."""
    service = Service(data)
    service.gets.extend(spoilt)
    player = Player(service, options, Mark.at(Position.unread(4)), links=[Link(tie, crc64.update(data[:tie]))])
    player.settle()
    return player


@pytest.mark.parametrize("tie", range(4, len(OLD) + 1))
@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("delimiter", [None, b"\n"])
def test_after_a_rewind_the_claim_is_of_all_that_was_handed_out(tie: int, at: int, delimiter: bytes | None) -> None:
    options = changed(FULL, delimiter=delimiter, max_window=5, max_depth=1)
    player = from_byte_4(options, tie, *[None] * at, flip_data(1))
    claim = player.tail.claim
    assert claim is not None
    assert claim.start == 4
    assert claim.crc64 == crc64.update(player.held()[: claim.size - 4])
    assert player.tail.mark.delivered.claim == claim


def test_with_the_beginning_all_that_was_kept_is_proven() -> None:
    player = from_byte_4(changed(FULL, delimiter=b"\n"), 12, data=OLD + b"ii")
    mark, claim = player.tail.mark, player.tail.claim
    assert claim is not None
    assert (mark.delivered.unproven, mark.unproven) == (claim.size, claim.size - 4)
    player.tail.prove_beginning(claim, crc64.update(OLD[:4]))
    player.settle()
    assert player.events[-1] == Verified(position(OLD + b"ii"))
    assert player.tail.claim is None
    assert player.tail.mark == Mark.at(position(OLD))
    assert player.tail.mark.unproven == 0


def test_the_beginning_proves_what_was_delivered_below_the_first_statement() -> None:
    """Whose CRC-64 was not known, since nothing stated it."""
    player = from_byte_4(changed(FULL, delimiter=b"\n"), 9, data=OLD[:9])
    assert player.tail.mark.delivered == Position(7, None, claim=Claim(4, 7, crc64.update(b"aa\n"), None))
    assert player.tail.claim is not None
    player.tail.prove_beginning(player.tail.claim, crc64.update(OLD[:4]))
    assert player.tail.mark == Mark.at(position(OLD[:7]))


def test_a_claim_of_an_object_that_is_over_proves_nothing() -> None:
    player = from_byte_4(FULL, 12)
    claim = player.tail.claim
    assert claim is not None
    player.service.put(b"another", type="Normal")
    player.poll()
    player.forget()
    player.tail.prove_beginning(claim, 0)
    player.settle()
    assert player.events == []


@pytest.mark.parametrize("stop", range(4, len(OLD)))
@pytest.mark.parametrize("delimiter", [None, b"\n"])
def test_a_stop_anywhere_loses_nothing_of_what_is_not_proven(stop: int, delimiter: bytes | None) -> None:
    """The mark of a reading that saw no statement, or one, goes on in another; both together are one claim."""
    options = changed(FULL, delimiter=delimiter)
    player = from_byte_4(options, 12, data=OLD[:stop]) if stop >= 12 else from_byte_4(options, stop, data=OLD[:stop])
    again = Player(Service(OLD), options, player.tail.mark)
    again.settle()
    claim, held = again.tail.claim, player.held() + again.held()
    assert held == OLD[4:]
    assert claim is not None
    assert claim == Claim(4, claim.size, crc64.update(OLD[4 : claim.size]), crc64.update(OLD[: claim.size]))
    assert again.of(Verified)[-1].position == changed(position(OLD), claim=claim)


def test_without_checks_nothing_is_known_of_what_was_read() -> None:
    player = follow(OLD, changed(NAME, integrity=Integrity.OFF), Mark.at(Position.unread(4)))
    assert player.tail.mark.delivered == Position(len(OLD), None)
    assert player.tail.mark.delivered.unproven == len(OLD)


def test_strictly_the_end_of_an_object_that_is_replaced_while_more_of_it_is_read_comes_by_itself() -> None:
    """What the driver keeps back begins with it, and would never be proven."""
    player = follow(b"one\ntw", changed(LINES, integrity=Integrity.STRICT, max_window=6, max_depth=1))
    player.service.data = b"one\ntwo\nthree\nfour\nfive\n"
    player.service.gets.extend([None, lambda window: (*window[:2], changed(window[2], type="Normal"))])
    player.forget()
    player.poll()
    void = [event for event in player.events if not isinstance(event, Grew)][:5]
    assert [type(event) for event in void] == [Batch, Rewound, Verified, Batch, Replaced]
    assert (void[1], void[2]) == (Rewound(0, 4, void[0].end), Verified(position(b"one\ntw")))
    assert (bytes(void[3].data), void[3].verified) == (b"tw", True)

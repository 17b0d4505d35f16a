"""The soak's account of POSTs can count: losses, repeats within and beyond what a kill explains."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from tests.soak.service.receiver import Posts, receiving
from tests.soak.service.verdict import judge_posts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def posts(tmp_path: Path) -> Posts:
    return Posts(tmp_path, "logs/")


def test_bytes_in_order_are_the_file_and_no_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 1.0)
    posts.take("logs/a", 0, 3, b"two", 2.0)
    assert (posts.folder / "logs/a").read_bytes() == b"onetwo"
    assert posts.ends() == {"logs/a": 6}
    assert judge_posts("posts", posts, grace=0.0).passed


def test_a_gap_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 1.0)
    posts.take("logs/a", 0, 4, b"wo", 2.0)
    assert posts.problems == ["logs/a: 3 to 4 is missing"]
    assert not judge_posts("posts", posts, grace=0.0).passed


def test_what_comes_again_though_nobody_was_killed_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 1.0)
    posts.take("logs/a", 0, 2, b"etwo", 2.0)
    assert posts.problems == ["logs/a: 2 to 3 came again though nobody was killed"]


def test_what_came_after_the_last_kill_is_not_explained_by_it(posts: Posts) -> None:
    posts.killed(1.0)
    posts.take("logs/a", 0, 0, b"one", 5.0)
    posts.take("logs/a", 0, 0, b"one", 6.0)
    assert len(posts.problems) == 1


def test_the_age_of_a_repeat_is_that_of_its_oldest_byte_at_the_first_kill_after_it(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 10.0)
    posts.take("logs/a", 0, 3, b"two", 11.5)
    for moment in (12.0, 40.0):
        posts.killed(moment)
    posts.take("logs/a", 0, 3, b"twothree", 41.0)
    assert posts.problems == []
    assert posts.repeats == [(3, 0.5)]
    assert judge_posts("posts", posts, grace=0.0).passed


def test_a_repeat_of_what_came_long_before_the_kill_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 10.0)
    posts.killed(12.5)
    posts.take("logs/a", 0, 0, b"one", 14.0)
    assert posts.repeats == [(3, 2.5)]
    assert judge_posts("posts", posts, grace=1.6).passed
    assert not judge_posts("posts", posts, grace=1.4).passed


def test_what_is_read_long_after_its_sender_was_killed_was_sent_before(posts: Posts) -> None:
    posts.killed(5.0)
    posts.killed(10.0)
    assert posts.sent(opened=7.0, now=9.0) == 9.0
    assert posts.sent(opened=7.0, now=13.0) == 10.0
    assert posts.sent(opened=11.0, now=13.0) == 13.0


def test_what_is_read_behind_the_successor_of_its_sender_is_left(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 10.0)
    posts.killed(10.5)
    posts.take("logs/a", 0, 3, b"two", 14.0)
    posts.take("logs/a", 0, 3, b"tw", posts.sent(opened=10.2, now=14.1))
    posts.take("logs/a", 0, 6, b"three", 14.2)
    assert (posts.problems, posts.repeats) == ([], [])
    assert (posts.folder / "logs/a").read_bytes() == b"onetwothree"


@pytest.mark.parametrize(("age", "passes"), [(0.95, True), (1.05, False)])
def test_the_bound_is_one_second_whatever_the_service_makes_of_it(posts: Posts, age: float, passes: bool) -> None:
    posts.take("logs/a", 0, 0, b"one", 10.0)
    posts.killed(10.0 + age)
    posts.take("logs/a", 0, 0, b"one", 14.0)
    assert judge_posts("posts", posts, grace=0.0).passed is passes


@pytest.mark.parametrize(("size", "passes"), [(128 << 20, True), ((128 << 20) + 1, False)])
def test_no_more_than_128_mib_come_again_however_they_are_cut(posts: Posts, size: int, passes: bool) -> None:
    posts.repeats = [(size, 0.5)]
    assert judge_posts("posts", posts, grace=0.0).passed is passes


def test_a_repeat_is_all_that_comes_again_in_how_many_batches_it_does(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 10.0)
    posts.take("logs/a", 0, 3, b"two", 10.5)
    posts.killed(10.7)
    posts.take("logs/a", 0, 0, b"on", 14.0)
    posts.take("logs/a", 0, 2, b"etw", 14.1)
    posts.take("logs/a", 0, 5, b"o", 14.2)
    assert posts.problems == []
    assert posts.repeats == [(6, pytest.approx(0.7))]


def test_an_object_that_never_is_replaced_and_is_taken_for_another_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 1, 0, b"one", 1.0)
    assert posts.problems == ["logs/a: taken for another object at 0"]


def test_a_new_generation_of_what_may_be_replaced_begins_the_file_anew(posts: Posts) -> None:
    posts.take("volatile/a", 0, 0, b"the old one", 1.0)
    posts.take("volatile/a", 1, 0, b"new", 2.0)
    assert posts.problems == []
    assert (posts.folder / "volatile/a").read_bytes() == b"new"
    posts.take("volatile/a", 2, 5, b"middle", 3.0)
    assert posts.problems == ["volatile/a: 0 to 5 is missing"]


@pytest.mark.parametrize(("refused", "status", "kept"), [(0.0, 204, True), (1.0, 503, False)])
def test_what_is_refused_is_not_taken(posts: Posts, refused: float, status: int, kept: bool) -> None:
    place = {"X-OSS-Tail-Object": "oss://soak/logs/a%20b", "X-OSS-Tail-Generation": "0", "X-OSS-Tail-Start": "0"}
    with receiving([posts], refused, seed=1) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/0", b"one", place)
        assert connection.getresponse().status == status
        connection.close()
    assert (posts.folder / "logs/a b").exists() is kept

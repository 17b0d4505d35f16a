"""The soak's account of POSTs can count: losses, repeats within and beyond what a kill explains."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from tests.soak.service.receiver import LIFE, Posts, Repeat, receiving
from tests.soak.service.verdict import judge_posts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def posts(tmp_path: Path) -> Posts:
    return Posts(tmp_path, "logs/")


def test_bytes_in_order_are_the_file_and_no_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 1.0)
    posts.take("logs/a", 0, 3, b"two", 0, 2.0)
    assert (posts.folder / "logs/a").read_bytes() == b"onetwo"
    assert posts.ends() == {"logs/a": 6}
    assert judge_posts("posts", posts, grace=0.0).passed


def test_a_gap_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 1.0)
    posts.take("logs/a", 0, 4, b"wo", 0, 2.0)
    assert posts.problems == ["logs/a: 3 to 4 is missing"]
    assert not judge_posts("posts", posts, grace=0.0).passed


def test_what_comes_again_in_one_life_is_a_problem(posts: Posts) -> None:
    posts.killed(0, 0.5)
    posts.take("logs/a", 0, 0, b"one", 1, 1.0)
    posts.take("logs/a", 0, 2, b"etwo", 1, 3.5)
    assert posts.problems == ["logs/a: 2 to 3 came again in life 1, 2.50 s later"]


def test_what_comes_again_in_one_life_is_a_problem_though_a_part_of_it_is_older(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 1.0)
    posts.killed(0, 1.5)
    posts.take("logs/a", 0, 3, b"two", 1, 2.0)
    posts.take("logs/a", 0, 2, b"etwo", 1, 3.0)
    assert posts.problems == ["logs/a: 2 to 6 came again in life 1, 2.00 s later"]


def test_what_comes_again_though_its_sender_ended_by_itself_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 1.0)
    posts.take("logs/a", 0, 0, b"one", 1, 2.0)
    assert posts.problems == ["logs/a: 0 to 3 came again in life 1, though life 0 was not killed"]


def test_the_age_of_a_repeat_is_that_of_its_oldest_byte_at_the_kill_of_its_sender(posts: Posts) -> None:
    """What a kill tore off need not come in the very next life."""
    posts.take("logs/a", 0, 0, b"one", 3, 10.0)
    posts.take("logs/a", 0, 3, b"two", 3, 11.5)
    posts.killed(3, 12.0)
    posts.killed(4, 40.0)
    posts.take("logs/a", 0, 3, b"twothree", 5, 41.0)
    assert posts.problems == []
    assert posts.repeats == [("logs/a: 3 to 6", 3, 0.5)]
    assert judge_posts("posts", posts, grace=0.0).passed


def test_a_repeat_of_what_came_long_before_the_kill_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 10.0)
    posts.killed(0, 12.5)
    posts.take("logs/a", 0, 0, b"one", 1, 14.0)
    assert posts.repeats == [("logs/a: 0 to 3", 3, 2.5)]
    assert judge_posts("posts", posts, grace=1.6).passed
    row = judge_posts("posts", posts, grace=1.4)
    assert not row.passed
    assert "logs/a: 0 to 3 came again, from 2.50 s before the kill" in str(row)


def test_what_is_read_long_after_its_sender_was_killed_was_sent_before(posts: Posts) -> None:
    posts.killed(0, 5.0)
    posts.take("logs/a", 0, 0, b"one", 0, 9.0)
    posts.take("logs/a", 0, 0, b"one", 1, 9.5)
    assert (posts.problems, posts.repeats) == ([], [("logs/a: 0 to 3", 3, 0.0)])


def test_what_is_read_behind_the_successor_of_its_sender_is_left(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 10.0)
    posts.killed(0, 10.5)
    posts.take("logs/a", 0, 3, b"two", 1, 14.0)
    posts.take("logs/a", 0, 3, b"tw", 0, 14.1)
    posts.take("logs/a", 0, 6, b"three", 1, 14.2)
    assert (posts.problems, posts.repeats) == ([], [])
    assert (posts.folder / "logs/a").read_bytes() == b"onetwothree"


@pytest.mark.parametrize(("age", "passes"), [(0.95, True), (1.05, False)])
def test_the_bound_is_one_second_whatever_the_service_makes_of_it(posts: Posts, age: float, passes: bool) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 10.0)
    posts.killed(0, 10.0 + age)
    posts.take("logs/a", 0, 0, b"one", 1, 14.0)
    assert judge_posts("posts", posts, grace=0.0).passed is passes


@pytest.mark.parametrize(("size", "passes"), [(128 << 20, True), ((128 << 20) + 1, False)])
def test_no_more_than_128_mib_come_again_however_they_are_cut(posts: Posts, size: int, passes: bool) -> None:
    posts.repeats = [Repeat("logs/a", size, 0.5)]
    assert judge_posts("posts", posts, grace=0.0).passed is passes


def test_a_repeat_is_all_that_comes_again_in_how_many_batches_it_does(posts: Posts) -> None:
    posts.take("logs/a", 0, 0, b"one", 0, 10.0)
    posts.take("logs/a", 0, 3, b"two", 0, 10.5)
    posts.killed(0, 10.7)
    posts.take("logs/a", 0, 0, b"on", 1, 14.0)
    posts.take("logs/a", 0, 2, b"etw", 1, 14.1)
    posts.take("logs/a", 0, 5, b"o", 1, 14.2)
    assert posts.problems == []
    assert posts.repeats == [("logs/a: 0 to 6", 6, pytest.approx(0.7))]


def test_an_object_that_never_is_replaced_and_is_taken_for_another_is_a_problem(posts: Posts) -> None:
    posts.take("logs/a", 1, 0, b"one", 0, 1.0)
    assert posts.problems == ["logs/a: taken for another object at 0"]


def test_a_new_generation_of_what_may_be_replaced_begins_the_file_anew(posts: Posts) -> None:
    posts.take("volatile/a", 0, 0, b"the old one", 0, 1.0)
    posts.take("volatile/a", 1, 0, b"new", 0, 2.0)
    assert posts.problems == []
    assert (posts.folder / "volatile/a").read_bytes() == b"new"
    posts.take("volatile/a", 2, 5, b"middle", 0, 3.0)
    assert posts.problems == ["volatile/a: 0 to 5 is missing"]


@pytest.mark.parametrize(("refused", "status", "kept"), [(0.0, 204, True), (1.0, 503, False)])
def test_what_is_refused_is_not_taken(posts: Posts, refused: float, status: int, kept: bool) -> None:
    place = {
        "X-OSS-Tail-Object": "oss://soak/logs/a%20b",
        "X-OSS-Tail-Generation": "0",
        "X-OSS-Tail-Start": "0",
        LIFE: "0",
    }
    with receiving([posts], refused, seed=1) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/0", b"one", place)
        assert connection.getresponse().status == status
        connection.close()
    assert (posts.folder / "logs/a b").exists() is kept

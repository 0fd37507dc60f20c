"""The paged KV cache."""

from vllmstack.simulation.cache import BlockCache


def test_blocks_that_were_released_are_found_again() -> None:
    cache = BlockCache(10)
    assert cache.hold([1, 2, 3], 1)

    cache.release([1, 2, 3], 1)

    assert (cache.held, cache.matched([1, 2, 3, 4])) == (0, 3)


def test_a_match_ends_at_the_first_block_that_is_not_there() -> None:
    cache = BlockCache(10)
    cache.hold([1, 3], 1)

    assert cache.matched([1, 2, 3]) == 1


def test_blocks_in_use_are_shared_and_counted_once() -> None:
    cache = BlockCache(10)
    cache.hold([1, 2, 3], 1)

    cache.hold([1, 2, 4], 1)

    assert cache.held == 4 + 2  # and each request has the part of a block at its end


def test_what_does_not_fit_changes_nothing() -> None:
    cache = BlockCache(4)
    cache.hold([1, 2], 1)

    assert not cache.hold([3], 1)
    assert cache.held == 3
    assert cache.matched([3]) == 0


def test_the_longest_unused_goes_first_and_of_one_request_its_end() -> None:
    cache = BlockCache(6)
    for numbers in ([1, 2], [3, 4]):
        cache.hold(numbers, 1)
        cache.release(numbers, 1)

    cache.hold([5, 6], 1)  # with its end three blocks: one of the four idle ones must go

    assert cache.matched([1, 2]) == 1
    assert cache.matched([3, 4]) == 2


def test_a_block_stays_while_one_of_its_holders_does() -> None:
    cache = BlockCache(4)
    cache.hold([1], 1)
    cache.hold([1], 1)
    cache.release([1], 1)

    assert not cache.hold([2, 3], 1)
    assert cache.matched([1]) == 1

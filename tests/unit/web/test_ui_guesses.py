"""Wrong tokens at the sign-in form are counted, for a while, in bounded memory."""

from web.ui.guesses import ADDRESSES_MAX, GUESSES_MAX, WINDOW_MS, Guesses


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def test_who_guessed_too_often_waits_until_the_minute_is_over() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(GUESSES_MAX):
        assert guesses.wait_s("a") == 0
        guesses.add("a")
    assert guesses.wait_s("a") == WINDOW_MS // 1_000
    assert guesses.wait_s("b") == 0
    clock.now_ms += WINDOW_MS - 1
    assert guesses.wait_s("a") == 1
    clock.now_ms += 1
    assert guesses.wait_s("a") == 0
    guesses.add("a")
    assert guesses.wait_s("a") == 0


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    guesses = Guesses(Clock())
    for _ in range(GUESSES_MAX):
        guesses.add("first")
    for number in range(ADDRESSES_MAX):
        guesses.add(str(number))
    assert guesses.wait_s("first") == 0

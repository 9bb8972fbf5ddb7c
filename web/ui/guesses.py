"""Wrong tokens at the sign-in form: who offers many has to wait."""

import threading
from collections.abc import Callable

GUESSES_MAX = 10
WINDOW_MS = 60_000
ADDRESSES_MAX = 10_000
"""Of so many addresses wrong tokens are remembered; the one that began first is forgotten."""


class Guesses:
    """Counts wrong tokens by the address that they came from, in this process."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._windows: dict[str, tuple[int, int]] = {}  # address: when it began, how many
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> int:
        """Return how many seconds an address has to wait, 0 for none."""
        with self._lock:
            began, count = self._windows.get(address, (0, 0))
        left = began + WINDOW_MS - self._now_ms()
        return -(-left // 1_000) if count >= GUESSES_MAX and left > 0 else 0

    def add(self, address: str) -> None:
        """Note a wrong token."""
        now = self._now_ms()
        with self._lock:
            began, count = self._windows.pop(address, (now, 0))
            if now >= began + WINDOW_MS:
                began, count = now, 0
            self._windows[address] = began, count + 1
            if len(self._windows) > ADDRESSES_MAX:
                del self._windows[next(iter(self._windows))]

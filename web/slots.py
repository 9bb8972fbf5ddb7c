"""A bounded number of things that may be held at once."""

import threading


class Slots:
    """Gives out as many slots as there are, and no more."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._lock = threading.Lock()
        self.held = 0

    def acquire(self) -> bool:
        """Take a slot; False when all are taken."""
        with self._lock:
            if self.held >= self._count_max:
                return False
            self.held += 1
            return True

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self.held -= 1

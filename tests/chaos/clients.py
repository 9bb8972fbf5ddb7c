"""Clients that prompt, steer and read, at random gateways, and come back whatever happens."""

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

HOST = "127.0.0.1"
TIMEOUT_S = 30.0
PAUSE_S = 0.05
RETRIED = (429, 500, 502, 503)
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


class Seen(Struct):
    """What clients were told: keys of prompts that were acknowledged, and frames by reader."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    frames: dict[tuple[str, int], list[tuple[int, bytes]]] = field(default_factory=dict)
    refused: list[tuple[int, str]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


class Clients:
    """So many prompting and reading threads, until they are stopped."""

    def __init__(
        self,
        ports: Sequence[int],
        sessions: Sequence[str],
        *,
        prompting: int,
        reading: int,
        seed: int,
    ) -> None:
        self.seen = Seen()
        self._ports = ports
        self._sessions = sessions
        self._stop_prompting = threading.Event()
        self._stop_reading = threading.Event()
        self._prompting = [
            threading.Thread(target=self._prompt, args=(random.Random(f"{seed} p{n}"), n))
            for n in range(prompting)
        ]
        self._reading = [
            threading.Thread(target=self._read, args=(random.Random(f"{seed} r{n}"), n))
            for n in range(reading)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in (*self._prompting, *self._reading):
            thread.start()

    def stop_prompting(self) -> None:
        """Ask for nothing more; what was begun is brought to its end."""
        self._stop_prompting.set()
        for thread in self._prompting:
            thread.join()

    def stop_reading(self) -> None:
        """Let the readers end."""
        self._stop_reading.set()
        for thread in self._reading:
            thread.join()

    def _prompt(self, dice: random.Random, number: int) -> None:
        for count in itertools.count():
            if self._stop_prompting.is_set():
                return
            key = dice.choice(self._sessions)
            idempotency_key = f"client-{number}-{count}"
            words = " ".join(dice.choices(WORDS, k=dice.randint(3, 40)))
            route = "steer" if dice.random() < 0.1 else "enqueue"
            status = self._ask(dice, f"/sessions/{key}/{route}", idempotency_key, words)
            if status < 300:
                with self.seen.lock:
                    self.seen.acknowledged[idempotency_key] = key
            time.sleep(PAUSE_S * dice.random())

    def _ask(self, dice: random.Random, path: str, idempotency_key: str, text: str) -> int:
        """Ask until somebody answers for good; a steer finds no session at first: that's 404."""
        body = json.dumps({"text": text})
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        while True:
            status = 0
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(
                    HOST, dice.choice(self._ports), timeout=TIMEOUT_S
                )
                with contextlib.closing(connection):
                    connection.request("POST", path, body, headers)
                    response = connection.getresponse()
                    answer = response.read()
                    status = response.status
            if status and status not in RETRIED:
                if status >= 300 and status != 404:
                    with self.seen.lock:
                        self.seen.refused.append((status, answer.decode()))
                return status
            time.sleep(PAUSE_S)

    def _read(self, dice: random.Random, number: int) -> None:
        key = self._sessions[number % len(self._sessions)]
        frames: list[tuple[int, bytes]] = []
        self.seen.frames[key, number] = frames
        while not self._stop_reading.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._read_once(dice, key, frames)
            time.sleep(PAUSE_S)

    def _read_once(self, dice: random.Random, key: str, frames: list[tuple[int, bytes]]) -> None:
        connection = http.client.HTTPConnection(HOST, dice.choice(self._ports), timeout=1.0)
        with contextlib.closing(connection):
            after = frames[-1][0] if frames else 0
            headers = {"Last-Event-ID": str(after)}
            connection.request("GET", f"/sessions/{key}/events", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                response.read()
                return
            lines: list[bytes] = []
            until = time.monotonic() + dice.uniform(1, 20)  # then it goes to another gateway
            while not self._stop_reading.is_set() and time.monotonic() < until:
                line = response.readline()
                if not line:
                    return
                if line != b"\n":
                    lines.append(line)
                    continue
                self._take(lines, frames)
                lines = []

    def _take(self, lines: list[bytes], frames: list[tuple[int, bytes]]) -> None:
        """Keep a frame; ``hello`` tells of the state, and is no event."""
        if lines and lines[0].startswith(b"id: ") and b'"type":"hello"' not in lines[1]:
            frames.append((int(lines[0][4:]), b"".join(lines)))

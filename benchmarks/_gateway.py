"""A whole gateway in this process, and prompts that are waited for."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.session import commands as c
from actors.session.events import RunCompleted
from actors.tail import Tail
from benchmarks._store import url_of
from web.bootstrap import Gateway
from web.settings import Settings

WAIT_S = 60.0


@contextlib.contextmanager
def open_gateway(database: Path, **settings: Any) -> Iterator[Gateway]:  # noqa: ANN401 - one value for each setting
    """Yield a gateway that has started; it has the demo model."""
    gateway = Gateway(Settings(database_url=url_of(database), model="demo/echo", **settings))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def prompt(gateway: Gateway, key: str, text: str) -> None:
    """Prompt a session and wait until its run is complete."""
    registry = gateway.registry
    prompt_id = str(uuid.uuid4())
    command = c.QueuePrompt(
        registry.now_ms(), str(uuid.uuid4()), prompt_id, text, "messages", queue_max=8
    )
    _, reader = registry.prompt(key, command)
    with contextlib.closing(Tail(gateway.log, key, reader)) as tail:
        while True:
            batch = tail.next(WAIT_S)
            assert batch, f"session {key} says nothing"
            if any(isinstance(each.event, RunCompleted) for each in batch):
                return

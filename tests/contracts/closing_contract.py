"""How a model call is ended from another thread; a provider binds it like ModelContract."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from actors.models.base import Finished, Model, ModelError, ModelStream, Part
from actors.session.events import TextDelta
from tests.contracts.model_contract import HELLO, ModelCase
from tests.wire.servers import DEADLINE_S, Finish, Meet, ModelServer, Say, Stall

ROOT = Path(__file__).parents[2]


class Reader:
    """Reads one call on a thread of its own."""

    def __init__(self, model: Model) -> None:
        self.parts: list[Part] = []
        self.error: ModelError | None = None
        self.stream: ModelStream | None = None
        self._model = model
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until_it_waits(self) -> ModelStream:
        """Return the stream once something has come of it and the thread waits for more."""
        assert self._began.wait(DEADLINE_S)
        self._thread.join(0.001)
        eventually(self._waits)
        assert self._thread.is_alive()
        assert self.stream is not None
        return self.stream

    def close(self) -> None:
        """Close the stream; the thread has to end long before a stalled call does by itself."""
        assert self.stream is not None
        assert self._thread.is_alive()
        self.stream.close()
        self.end()
        assert str(self.error) == "The call was closed."

    def end(self) -> list[Part]:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.parts

    def _waits(self) -> bool:
        # A greenlet is not among the frames: while it does not run, it waits.
        frame = sys._current_frames().get(self._thread.ident or 0)
        return frame is None or frame.f_code.co_filename.endswith("_backends/sync.py")

    def _read(self) -> None:
        try:
            with self._model.stream(HELLO) as stream:
                self.stream = stream
                for part in stream:
                    self.parts.append(part)
                    self._began.set()
        except ModelError as error:
            self.error = error


def eventually(what: Callable[[], bool]) -> None:
    """Wait until it is so, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.001)


def connecting_in_vain(stack: ExitStack) -> str:
    """Return an address that takes no connection and refuses none: its backlog is full."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(16):
        waiting = stack.enter_context(socket.socket())
        waiting.settimeout(0.05)
        try:
            waiting.connect(listener.getsockname())
        except TimeoutError:
            return f"http://127.0.0.1:{listener.getsockname()[1]}"
    pytest.skip("this system's backlogs are never full")


class ClosingContract(ModelCase):
    """A call ends at once, whatever it waits for."""

    def test_close_ends_a_blocked_read(self, server: ModelServer) -> None:
        server.reply([Say(["x"]), Stall()])
        reader = Reader(self.model(server))
        reader.until_it_waits()
        reader.close()
        assert reader.parts == [TextDelta(0, "x")]

    def test_close_ends_a_call_whose_answer_has_not_begun(self, server: ModelServer) -> None:
        server.reply(Stall())
        reader = Reader(self.model(server))
        eventually(lambda: len(server.requests) == 1)
        reader.close()
        assert reader.parts == []

    def test_close_ends_a_call_that_connects(self, server: ModelServer) -> None:
        with ExitStack() as stack:
            reader = Reader(self.model(server, base_url=connecting_in_vain(stack)))
            eventually(lambda: reader.stream is not None)
            time.sleep(0.05)  # nothing shows that it connects
            reader.close()

    def test_close_ends_a_call_whose_connection_is_not_encrypted_yet(
        self, server: ModelServer
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            reader = Reader(self.model(server, base_url=url))
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1)  # the handshake has begun
                reader.close()
                connection.settimeout(DEADLINE_S)
                while connection.recv(4_096):  # and its socket is gone as well
                    pass

    def test_a_call_that_is_closed_before_it_is_read_is_not_made(self, server: ModelServer) -> None:
        self.sent(server)  # its SDK is there
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            with self.model(server, base_url=url).stream(HELLO) as stream:
                stream.close()
                with pytest.raises(ModelError, match="closed"):
                    list(stream)
            unused.settimeout(0.5)
            with pytest.raises(TimeoutError):
                unused.accept()

    def test_a_call_is_made_when_it_is_read(self, server: ModelServer) -> None:
        with ModelServer(self.wire) as gone:
            url = gone.url
        stream = self.model(server, base_url=url).stream(HELLO)
        with stream as call, pytest.raises(ModelError, match="connection"):
            list(call)

    def test_a_closed_call_ends_at_its_next_part(self, server: ModelServer) -> None:
        server.reply([Say(["x", "y"]), Finish()])
        with self.model(server).stream(HELLO) as stream:
            parts = iter(stream)
            next(parts)
            stream.close()
            stream.close()
            with pytest.raises(ModelError, match="closed"):
                next(parts)

    def test_leaving_early_ends_the_call(self, server: ModelServer) -> None:
        server.reply([Say(["x"]), Stall(), Say(["y"] * 1_000), Finish()])
        with self.model(server).stream(HELLO) as stream:
            assert next(iter(stream)) == TextDelta(0, "x")

    def test_two_calls_go_on_at_once(self, server: ModelServer) -> None:
        both = Meet(threading.Barrier(2))
        server.reply([both, Say(["one"]), both, Finish()], [both, Say(["two"]), both, Finish()])
        model = self.model(server)
        readers = Reader(model), Reader(model)
        texts = {reader.end()[0] for reader in readers}
        assert texts == {TextDelta(0, "one"), TextDelta(0, "two")}
        assert all(isinstance(reader.parts[-1], Finished) for reader in readers)

    def test_closing_one_call_leaves_the_others_alone(self, server: ModelServer) -> None:
        model = self.model(server)
        stalled = Say(["x"]), Stall(), Finish()
        server.reply([Say(["a"]), Finish()], stalled, stalled)
        with model.stream(HELLO) as finished:
            list(finished)
        readers = Reader(model), Reader(model)
        closed, going_on = [reader.until_it_waits() for reader in readers]
        closed.close()
        finished.close()
        readers[0].end()
        server.released.set()
        assert isinstance(readers[1].end()[-1], Finished)
        assert going_on is not closed

    def test_all_of_this_holds_between_greenlets(self) -> None:
        module = sys.modules[type(self).__module__].__file__
        program = (
            "import sys; from persistence.native import patch; patch(); import pytest; "
            f"sys.exit(pytest.main(['-q', '-k', 'Closing and not greenlets', {module!r}]))"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # none of them is needed
            capture_output=True,
            text=True,
            timeout=3 * DEADLINE_S,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert "passed" in run.stdout

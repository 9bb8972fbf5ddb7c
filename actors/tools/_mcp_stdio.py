"""A server that is a process: its messages are the lines that it reads and writes."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import IO

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from persistence.native import has_ended, spawn_process

MESSAGE_BYTES_MAX = 16_777_216
LOGGED_BYTES_MAX = 4_096
LOOK_EVERY_S = 0.2
POLL_S = 0.01
GRACE_S = 1.0
"""How long a process gets to end by itself, then after SIGTERM."""

MODES = ("wb", "rb", "rb")

Incoming = MemoryObjectSendStream[SessionMessage | Exception]
Streams = tuple[
    MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def process_streams(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    ended: Callable[[], object],
) -> AsyncIterator[Streams]:
    """Start the process and connect to it; leaving the context ends it and what it started.

    It gets the environment that is given, PATH apart from nothing of this process's own.
    ``ended`` is called when it says nothing more. Raises OSError and ValueError.
    """
    process = _Process(command, {"PATH": os.environ.get("PATH", os.defpath), **environment})
    incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with incoming, read_stream, write_stream, outgoing, AsyncExitStack() as stack:
            await process.connect()
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(_read, name, process.stdout, incoming, ended)
            tasks.start_soon(_write, process.stdin, outgoing, ended)
            tasks.start_soon(_log, name, process.stderr)
            tasks.start_soon(_look_after, process)
            try:
                yield read_stream, write_stream
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                tasks.cancel_scope.cancel()
    finally:
        process.close()


class _Process:
    """A process and the pipes to it. Raises OSError and ValueError."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.stdin = _WritePipe()
        self.stdout = asyncio.StreamReader(limit=MESSAGE_BYTES_MAX)
        self.stderr = asyncio.StreamReader(limit=LOGGED_BYTES_MAX)
        self.ended = False
        self._transports: list[asyncio.BaseTransport] = []
        self._pipes: list[IO[bytes]] = []
        theirs, self._ours = _three_pipes()
        try:
            self._id = spawn_process(command, environment, theirs)
        except BaseException:
            self.ended = True
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    async def connect(self) -> None:
        """Read and write the pipes on this loop."""
        loop = asyncio.get_running_loop()
        self._pipes = [
            os.fdopen(fd, mode, buffering=0) for fd, mode in zip(self._ours, MODES, strict=True)
        ]
        self._ours = ()
        transport, _ = await loop.connect_write_pipe(lambda: self.stdin, self._pipes[0])
        self.stdin.transport = transport
        for reader, pipe in zip((self.stdout, self.stderr), self._pipes[1:], strict=True):
            protocol = partial(asyncio.StreamReaderProtocol, reader)
            self._transports.append((await loop.connect_read_pipe(protocol, pipe))[0])
        self._pipes = []  # the transports close them

    def has_ended(self) -> bool:
        """Tell whether the process has ended, what it has started apart."""
        self.ended = self.ended or has_ended(self._id)
        return self.ended

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the process and what it has started: it leads their group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._id, number)

    def close(self) -> None:
        """End it at once, and let go of the pipes."""
        if not self.has_ended():
            self.kill(signal.SIGKILL)
        for fd in self._ours:
            os.close(fd)
        self._ours = ()
        self.stdin.close()
        for transport in self._transports:
            transport.close()
        for pipe in self._pipes:  # nobody has taken them: connecting was cut off
            pipe.close()


def _three_pipes() -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return a process's ends of its standard streams, and the other ends."""
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    return (stdin[0], stdout[1], stderr[1]), (stdin[1], stdout[0], stderr[0])


class _WritePipe(asyncio.BaseProtocol):
    """Writes to a pipe, no faster than it is read."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._free = asyncio.Event()
        self._free.set()

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._free.set()

    async def write(self, data: bytes) -> None:
        """Write it; blocks while the pipe is full. Raises BrokenPipeError."""
        if self.transport is None or self.transport.is_closing():
            raise BrokenPipeError
        self.transport.write(data)
        await self._free.wait()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


async def _read(
    name: str,
    stdout: asyncio.StreamReader,
    incoming: Incoming,
    ended: Callable[[], object],
) -> None:
    try:
        async with incoming:
            while line := await stdout.readline():
                message = _message_in(line)
                if message is not None:
                    await incoming.send(message)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # nobody listens any more
    except ValueError:
        logger.warning(
            "The MCP server %s wrote a line of more than %d bytes.", name, MESSAGE_BYTES_MAX
        )
    finally:
        ended()


def _message_in(line: bytes) -> SessionMessage | None:
    """Return the message; a line that is none is something a server has printed."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


async def _write(
    stdin: _WritePipe,
    outgoing: MemoryObjectReceiveStream[SessionMessage],
    ended: Callable[[], object],
) -> None:
    try:
        async with outgoing:
            async for each in outgoing:
                line = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.write(f"{line}\n".encode())
    except OSError:
        ended()


async def _log(name: str, stderr: asyncio.StreamReader) -> None:
    while text := await stderr.read(LOGGED_BYTES_MAX):
        for line in text.decode(errors="replace").splitlines():
            logger.debug("The MCP server %s says: %s", name, line)


async def _look_after(process: _Process) -> None:
    """End what a process has left behind: it would keep the pipes open."""
    while not process.has_ended():
        await asyncio.sleep(LOOK_EVERY_S)
    process.kill(signal.SIGKILL)


async def _end(process: _Process) -> None:
    """Ask the process to end, ever less kindly. Takes three times GRACE_S at most."""
    process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if await _ends(process):
            break
        process.kill(number)
    await _ends(process)
    process.kill(signal.SIGKILL)  # what it has left behind


async def _ends(process: _Process) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            while not process.has_ended():
                await asyncio.sleep(POLL_S)
    return process.ended

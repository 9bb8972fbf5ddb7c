"""What every model over a wire keeps to; a provider binds it by its wire and its class."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.models.base import (
    Finished,
    Model,
    ModelError,
    ModelRequest,
    ModelStream,
    Part,
    ToolSpec,
)
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import (
    AssistantMessage,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)
from tests.wire.servers import (
    DEADLINE_S,
    Ask,
    Cut,
    Finish,
    Meet,
    ModelServer,
    Raw,
    Recorded,
    Refuse,
    Report,
    Say,
    Stall,
    Step,
    Think,
    ToldResult,
    Wire,
)

KEY = "sk-the-secret-key-0123456789"
HELLO = ModelRequest((UserMessage((Text("Hello"),), 0),))
LOOK_UP = ToolSpec("look_up", "Looks a word up.", {"type": "object", "properties": {}})
STALL_S = 0.2


class Reader:
    """Reads one call on a thread of its own."""

    def __init__(self, model: Model, request: ModelRequest = HELLO) -> None:
        self.parts: list[Part] = []
        self.error: ModelError | None = None
        self.stream: ModelStream | None = None
        self._model = model
        self._request = request
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until_it_waits(self) -> ModelStream:
        """Return the stream once something has come of it and the thread waits for more."""
        assert self._began.wait(DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        while not self._waits():
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            self._thread.join(0.001)
        assert self.stream is not None
        return self.stream

    def end(self, within_s: float = DEADLINE_S) -> list[Part]:
        self._thread.join(within_s)
        assert not self._thread.is_alive()
        return self.parts

    def _waits(self) -> bool:
        frame = sys._current_frames().get(self._thread.ident or 0)
        return frame is not None and frame.f_code.co_filename.endswith("_backends/sync.py")

    def _read(self) -> None:
        try:
            with self._model.stream(self._request) as stream:
                self.stream = stream
                for part in stream:
                    self.parts.append(part)
                    self._began.set()
        except ModelError as error:
            self.error = error


class ModelContract:
    """Bind ``provider``, ``wire`` and ``make``."""

    provider: str
    wire: Wire
    make: Callable[..., Model]

    @pytest.fixture
    def server(self) -> Iterator[ModelServer]:
        with ModelServer(self.wire) as server:
            yield server

    def model(self, server: ModelServer, **options: object) -> Model:
        settings = {"api_key": KEY, "base_url": server.url, "max_retries": 0, **options}
        return type(self).make(**{"model_id": "test-model", **settings})

    def parts(
        self, server: ModelServer, *steps: Step, request: ModelRequest = HELLO, **options: object
    ) -> list[Part]:
        server.reply(steps)
        with self.model(server, **options).stream(request) as stream:
            return list(stream)

    def message(
        self, server: ModelServer, *steps: Step, request: ModelRequest = HELLO, **options: object
    ) -> AssistantMessage:
        last = self.parts(server, *steps, request=request, **options)[-1]
        assert isinstance(last, Finished)
        return last.message

    def error(self, server: ModelServer, *steps: Step, **options: object) -> ModelError:
        with pytest.raises(ModelError) as raised:
            self.parts(server, *steps, request=HELLO, **options)
        assert self.provider in str(raised.value)
        assert KEY not in str(raised.value)
        return raised.value

    def sent(
        self, server: ModelServer, request: ModelRequest = HELLO, **options: object
    ) -> Recorded:
        self.parts(server, Say(["x"]), Finish(), request=request, **options)
        return server.requests[-1]

    def refusal(self, server: ModelServer, refuse: Refuse, **options: object) -> ModelError:
        server.reply(refuse)
        return self.error(server, **options)

    def test_the_sdk_is_imported_on_first_use(self) -> None:
        absent = f"not {{'{self.provider}', 'httpx2'}} & sys.modules.keys()"
        program = f"import sys, actors.models.{self.provider}; assert {absent}"
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=DEADLINE_S)

    def test_it_knows_its_name_and_its_window(self, server: ModelServer) -> None:
        model = self.model(server, context_tokens=12_345)
        named = (model.provider, model.model_id, model.context_tokens)
        assert named == (self.provider, "test-model", 12_345)

    def test_a_model_without_reasoning_is_not_told_to_think(self, server: ModelServer) -> None:
        request = ModelRequest(HELLO.messages, thinking_level="high")
        body = self.sent(server, request, reasoning=False).body
        assert body == self.sent(server, HELLO).body

    @pytest.mark.parametrize(
        ("own", "asked", "limit"), [(900, None, 900), (900, 50, 50), (900, 1_000, 900)]
    )
    def test_the_lower_limit_of_the_answer_counts(
        self, server: ModelServer, own: int, asked: int | None, limit: int
    ) -> None:
        request = ModelRequest(HELLO.messages, max_output_tokens=asked)
        assert self.sent(server, request, max_output_tokens=own).body["max_tokens"] == limit

    def test_an_answer_can_be_limited_where_the_model_is_not(self, server: ModelServer) -> None:
        request = ModelRequest(HELLO.messages, max_output_tokens=50)
        assert self.sent(server, request).body["max_tokens"] == 50

    def test_text_comes_piece_by_piece_and_then_whole(self, server: ModelServer) -> None:
        assert self.parts(server, Say(["Hel", "", "lo ", "wörld 🌍"]), Finish()) == [
            TextDelta(0, "Hel"),
            TextDelta(0, "lo "),
            TextDelta(0, "wörld 🌍"),
            Finished(
                AssistantMessage(
                    (Text("Hello wörld 🌍"),), 0, self.provider, "test-model", "stop", Usage()
                )
            ),
        ]

    def test_the_request_names_the_model_and_carries_key_and_system(
        self, server: ModelServer
    ) -> None:
        request = ModelRequest(HELLO.messages, system="Be brief.")
        self.parts(server, Say(["Hi"]), Finish(), request=request)
        sent = server.requests[0]
        assert (sent.body["model"], sent.body["stream"]) == ("test-model", True)
        assert not {"temperature", "top_p", "top_k", "tools"} & sent.body.keys()
        assert "Be brief." in str(sent.body)
        assert KEY in str(sent.headers)

    def test_what_is_recalled_comes_right_after_the_last_user_message(
        self, server: ModelServer
    ) -> None:
        call = ToolCall("id-1", "look_up", {})
        request = ModelRequest(
            (
                UserMessage((Text("Before"),), 0),
                AssistantMessage((Text("Yes"),), 0),
                UserMessage((Text("Asked"),), 0),
                AssistantMessage((call,), 0),
                ToolResultMessage("id-1", "look_up", (Text("Found"),), 0),
            ),
            recall="Remembered",
        )
        told = str(self.sent(server, request).body["messages"])
        places = [told.index(each) for each in ("Before", "Yes", "Asked", "Remembered", "Found")]
        assert places == sorted(places)

    def test_a_part_arrives_before_the_next_one_is_sent(self, server: ModelServer) -> None:
        server.reply([Say(["early"]), Stall(), Say(["late"]), Finish()])
        with self.model(server).stream(HELLO) as stream:
            parts = iter(stream)
            assert next(parts) == TextDelta(0, "early")
            server.released.set()
            assert isinstance(list(parts)[-1], Finished)

    def test_thinking_and_text_are_blocks_of_their_own(self, server: ModelServer) -> None:
        parts = self.parts(server, Think(["Hm", "mm"]), Say(["So", "."]), Finish())
        assert parts[:-1] == [
            ThinkingDelta(0, "Hm"),
            ThinkingDelta(0, "mm"),
            TextDelta(1, "So"),
            TextDelta(1, "."),
        ]
        assert isinstance(parts[-1], Finished)
        assert parts[-1].message.content == (Thinking("Hmmm"), Text("So."))

    def test_tool_calls_are_asked_for_and_their_results_sent_back(
        self, server: ModelServer
    ) -> None:
        request = ModelRequest(HELLO.messages, tools=(LOOK_UP,))
        parts = self.parts(
            server,
            Say(["Let me see."]),
            Ask("id-1", "look_up", ['{"wor', 'd":"tree"', "}"]),
            Ask("id-2", "look_up", []),
            Finish("tool_use"),
            request=request,
        )
        assert parts[1:-1] == [
            ToolInputDelta(1, "id-1", "look_up", '{"wor'),
            ToolInputDelta(1, "id-1", "look_up", 'd":"tree"'),
            ToolInputDelta(1, "id-1", "look_up", "}"),
        ]
        assert isinstance(parts[-1], Finished)
        answer = parts[-1].message
        assert answer.stop_reason == "tool_use"
        assert answer.content[1:] == (
            ToolCall("id-1", "look_up", {"word": "tree"}),
            ToolCall("id-2", "look_up", {}),
        )

        results = (
            ToolResultMessage("id-1", "look_up", (Text("A plant."),), 0),
            ToolResultMessage("id-2", "look_up", (Text("No word."),), 0, is_error=True),
        )
        again = ModelRequest((*HELLO.messages, answer, *results), tools=(LOOK_UP,))
        self.parts(server, Say(["A plant."]), Finish(), request=again)
        body = server.requests[1].body
        assert self.wire.told_tools(body) == ["look_up"]
        assert self.wire.told_calls(body) == [
            Ask("id-1", "look_up", ['{"word":"tree"}']),
            Ask("id-2", "look_up", ["{}"]),
        ]
        assert self.wire.told_results(body) == [
            ToldResult("id-1", "A plant."),
            ToldResult("id-2", "No word."),
        ]

    @pytest.mark.parametrize("stop_reason", ["stop", "length", "tool_use", "content_filter"])
    def test_the_stop_reason_is_told(self, server: ModelServer, stop_reason: str) -> None:
        assert self.message(server, Say(["x"]), Finish(stop_reason)).stop_reason == stop_reason

    def test_usage_is_told_as_the_provider_counted_it(self, server: ModelServer) -> None:
        usage = Usage(input=11, output=7, cache_read=5, cache_write=3)
        assert self.message(server, Say(["x"]), Finish("stop", usage)).usage == usage

    def test_arguments_that_are_not_json_are_an_error(self, server: ModelServer) -> None:
        server.reply([Ask("id-1", "look_up", ['{"word":']), Finish("tool_use")])
        with (
            pytest.raises(ModelError, match=r"'look_up'.*not valid JSON"),
            self.model(server).stream(HELLO) as stream,
        ):
            list(stream)

    def test_half_a_surrogate_pair_is_replaced(self, server: ModelServer) -> None:
        assert self.message(server, Say(["a\ud83d"]), Finish()).content == (Text("a\ufffd"),)
        call = Ask("\udc00", "look\ud83d", ["{}"])
        (asked,) = self.message(server, call, Finish("tool_use")).content
        assert asked == ToolCall("\ufffd", "look\ufffd", {})

    @pytest.mark.parametrize(("call_id", "name"), [(7, "look_up"), ("id-1", ["look_up"])])
    def test_a_tool_call_that_is_not_named_in_text_is_an_error(
        self, server: ModelServer, call_id: Any, name: Any
    ) -> None:
        self.error(server, Ask(call_id, name, ["{}"]), Finish("tool_use"))

    def test_too_many_requests_is_retryable(self, server: ModelServer) -> None:
        error = self.refusal(server, Refuse(429, "Slow down.", {"Retry-After": "0"}))
        assert (error.status, error.retryable) == (429, True)
        assert str(error) == f"{self.provider} answered 429: Slow down."
        assert len(server.requests) == 1

    def test_a_refused_request_is_sent_again(self, server: ModelServer) -> None:
        server.reply(Refuse(429, "Slow down.", {"Retry-After": "0"}))
        message = self.message(server, Say(["Here."]), Finish(), max_retries=1)
        assert message.content == (Text("Here."),)
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        ("header", "pause"),
        [
            ("Retry-After", "3600"),
            ("Retry-After", "Fri, 31 Dec 2999 23:59:59 GMT"),
            ("Retry-After-Ms", "3600000"),
        ],
    )
    def test_a_long_pause_is_not_waited_for(
        self, server: ModelServer, header: str, pause: str
    ) -> None:
        server.reply(Refuse(429, "Come back later.", {header: pause}))
        reader = Reader(self.model(server, max_retries=1))
        reader.end()
        assert reader.error is not None
        assert reader.error.status == 429
        assert len(server.requests) == 1

    def test_a_server_error_is_retryable(self, server: ModelServer) -> None:
        error = self.refusal(server, Refuse(500, "Oh dear."))
        assert (error.status, error.retryable) == (500, True)
        assert "Oh dear." in str(error)

    def test_a_wrong_key_is_not_retryable_and_not_shown(self, server: ModelServer) -> None:
        error = self.refusal(server, Refuse(401, f"Incorrect API key provided: {KEY}."))
        assert (error.status, error.retryable) == (401, False)
        assert "Incorrect API key provided: [key]." in str(error)

    def test_a_key_that_no_header_can_hold_is_not_shown(self, server: ModelServer) -> None:
        error = self.error(server, api_key=f"{KEY}\nX: y")
        assert not error.retryable
        assert not server.requests

    def test_a_server_that_is_not_there_is_retryable(self, server: ModelServer) -> None:
        with ModelServer(self.wire) as gone:
            url = gone.url
        error = self.error(server, base_url=url)
        assert (error.status, error.retryable) == (None, True)

    def test_an_error_inside_the_answer_has_its_status(self, server: ModelServer) -> None:
        error = self.error(server, Say(["x"]), Report("rate_limit_error", "Too much."))
        assert (error.status, error.retryable) == (429, True)
        assert "Too much." in str(error)

    @pytest.mark.parametrize("data", [b"data: {{{\n\n", b"data: \xff\xfe\n\n"])
    def test_garbage_is_an_error(self, server: ModelServer, data: bytes) -> None:
        error = self.error(server, Say(["x"]), Raw(data), Finish())
        assert str(error) == f"{self.provider} sent something that is not JSON."
        assert (error.status, error.retryable) == (None, False)

    def test_json_of_another_shape_is_an_error(self, server: ModelServer) -> None:
        assert not self.error(server, Raw(b'data: {"type": "x"}\n\n'), Cut()).status

    def test_a_stall_times_out(self, server: ModelServer) -> None:
        error = self.error(server, Say(["x"]), Stall(), stall_timeout_s=STALL_S)
        assert (error.status, error.retryable) == (None, True)
        assert str(error) == f"{self.provider} sent nothing for {STALL_S} s."

    def test_a_cut_answer_is_an_error(self, server: ModelServer) -> None:
        error = self.error(server, Say(["x"]), Cut())
        assert (error.status, error.retryable) == (None, True)

    def test_an_answer_without_its_end_is_an_error(self, server: ModelServer) -> None:
        error = self.error(server, Say(["x"]))
        assert str(error) == f"{self.provider} ended its answer early."
        assert error.retryable

    def test_close_ends_a_blocked_read(self, server: ModelServer) -> None:
        server.reply([Say(["x"]), Stall()])
        reader = Reader(self.model(server))
        reader.until_it_waits().close()
        assert reader.end(within_s=1.0) == [TextDelta(0, "x")]
        assert str(reader.error) == "The call was closed."

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
        readers[0].end(within_s=1.0)
        server.released.set()
        assert isinstance(readers[1].end()[-1], Finished)
        assert going_on is not closed

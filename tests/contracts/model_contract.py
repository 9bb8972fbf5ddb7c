"""What every model over a wire keeps to; a provider binds it by its wire and its class."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from actors.models.base import (
    Finished,
    Model,
    ModelError,
    ModelRequest,
    Part,
    Response,
    ToolSpec,
)
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import (
    AssistantMessage,
    Image,
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
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
HELLO = ModelRequest((UserMessage((Text("Hello"),), 0),))
LOOK_UP = ToolSpec("look_up", "Looks a word up.", {"type": "object", "properties": {}})
STALL_S = 0.2
ROOT = Path(__file__).parents[2]


class ModelCase:
    """What tests of a model need. Bind ``provider``, ``wire`` and ``make``."""

    provider: str
    wire: Wire
    make: Callable[..., Model]

    @pytest.fixture
    def server(self) -> Iterator[ModelServer]:
        with ModelServer(self.wire) as server:
            yield server

    def model(self, server: ModelServer, **options: object) -> Model:
        settings = {"api_key": KEY, "base_url": server.url, **options}
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

    def failed(self, text: str) -> str:
        """Return how a failed tool's text is told."""
        return text

    def refusal(self, server: ModelServer, refuse: Refuse, **options: object) -> ModelError:
        server.reply(refuse)
        return self.error(server, **options)


class ModelContract(ModelCase):
    """What is said and what comes of it."""

    @pytest.mark.parametrize("trace", [("", ""), (PARENT, ""), (PARENT, "rojo=1,congo=2")])
    def test_a_calls_trace_goes_on_at_the_provider(
        self, server: ModelServer, trace: tuple[str, str]
    ) -> None:
        asked = replace(HELLO, traceparent=trace[0], tracestate=trace[1])
        sent = self.sent(server, asked).headers
        assert (sent.get("traceparent", ""), sent.get("tracestate", "")) == trace

    def test_the_sdk_is_imported_on_first_use(self) -> None:
        absent = f"not {{'{self.provider}', 'httpx2'}} & sys.modules.keys()"
        program = f"import sys, actors.models.{self.provider}; assert {absent}"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=DEADLINE_S)

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
                ),
                Response("r1", "m"),
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
            ToldResult("id-2", self.failed("No word.")),
        ]

    def test_a_model_that_does_not_see_is_told_of_pictures(self, server: ModelServer) -> None:
        picture = Image("image/png", "aGk=")
        request = ModelRequest(
            (
                UserMessage((Text("Look:"), picture), 0),
                AssistantMessage((ToolCall("id-1", "look_up", {}),), 0),
                ToolResultMessage("id-1", "look_up", (Text("Found"), picture), 0),
            )
        )
        assert "aGk=" in str(self.sent(server, request).body)
        told = str(self.sent(server, request, vision=False).body)
        assert "aGk=" not in told
        assert told.count("a picture (image/png)") == 2

    @pytest.mark.parametrize("stop_reason", ["stop", "length", "tool_use", "content_filter"])
    def test_the_stop_reason_is_told(self, server: ModelServer, stop_reason: str) -> None:
        assert self.message(server, Say(["x"]), Finish(stop_reason)).stop_reason == stop_reason

    def test_usage_is_told_as_the_provider_counted_it(self, server: ModelServer) -> None:
        usage = Usage(input=11, output=7, cache_read=5, cache_write=3)
        last = self.parts(server, Say(["x"]), Finish("stop", usage, 4))[-1]
        assert isinstance(last, Finished)
        assert (last.message.usage, last.response) == (usage, Response("r1", "m", 4))

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

    @pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
    def test_what_may_pass_is_retryable_and_is_sent_once(
        self, server: ModelServer, status: int
    ) -> None:
        error = self.refusal(server, Refuse(status, "Not now."))
        assert (error.status, error.retryable, error.retry_after_s) == (status, True, None)
        assert not error.overflow
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    def test_what_stays_wrong_is_not_retryable(self, server: ModelServer, status: int) -> None:
        error = self.refusal(server, Refuse(status, "No."))
        assert (error.status, error.retryable) == (status, False)

    @pytest.mark.parametrize(
        ("headers", "pause_s"),
        [
            ({"Retry-After": "3600"}, 3_600.0),
            ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
            ({"Retry-After": "soon"}, None),
        ],
    )
    def test_the_pause_that_the_provider_asks_for_is_told(
        self, server: ModelServer, headers: dict[str, str], pause_s: float | None
    ) -> None:
        error = self.refusal(server, Refuse(429, "Come back later.", headers))
        assert (error.retryable, error.retry_after_s) == (True, pause_s)

    @pytest.mark.parametrize(("status", "told"), [(500, "false"), (403, "true")])
    def test_a_provider_may_say_whether_to_try_again(
        self, server: ModelServer, status: int, told: str
    ) -> None:
        error = self.refusal(server, Refuse(status, "Hm.", {"X-Should-Retry": told}))
        assert error.retryable == (told == "true")

    def test_a_quota_that_is_used_up_does_not_come_back(self, server: ModelServer) -> None:
        spent = Refuse(429, "Pay first.", fields={"type": "insufficient_quota"})
        assert not self.refusal(server, spent).retryable

    def test_a_request_that_is_too_large_does_not_fit(self, server: ModelServer) -> None:
        error = self.refusal(server, Refuse(413, "Too large."))
        assert (error.overflow, error.retryable) == (True, False)

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (400, "max_tokens: 9000 > 8192, the maximum allowed number of output tokens"),
            (400, "tool_calls[0].id: string too long. Expected maximum length 40"),
            (429, "Request too large: reduce the length of the messages to stay in your rate."),
            (504, "context deadline exceeded"),
        ],
    )
    def test_what_only_sounds_alike_does_fit(
        self, server: ModelServer, status: int, message: str
    ) -> None:
        assert not self.refusal(server, Refuse(status, message)).overflow

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

"""The openai SDK against the real gateway: completions, responses, sessions, errors."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import openai
import pytest

from actors.session import events as e
from actors.session.messages import Usage
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import check_log, events, until, words
from tests.acceptance.openai_world import (
    ANSWER,
    AUTHORIZED,
    BODY_BYTES,
    CHAT,
    RESPONSE,
    UNSUPPORTED,
    World,
    client_of,
    complete,
    world,
)
from tests.wire.servers import Finish, Refuse, Say

__all__ = ["world"]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
LIBRECHAT_TITLE = "Provide a concise, 5-word-or-less title for the conversation"


def test_two_turns_in_one_session_whole_and_streamed(world: World) -> None:
    headers = {"X-Session-Key": "sdk:1"}
    first: Any = {"role": "user", "content": "hello there"}
    answer = world.client.chat.completions.create(
        model="sessiond", messages=[first], extra_headers=headers
    )
    assert answer.object == "chat.completion"
    assert answer.model == "demo/echo"
    assert answer.choices[0].message.content == "hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    second: Any = {"role": "user", "content": "!think well\nand how are you"}
    stream = world.client.chat.completions.create(
        model="sessiond",
        messages=[first, {"role": "assistant", "content": "hello there"}, second],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=headers,
    )
    *chunks, last = list(stream)
    deltas = [each.choices[0].delta for each in chunks]
    assert "".join([each.content or "" for each in deltas]) == "and how are you"
    assert len([each for each in deltas if each.content]) > 1
    thought = [each.model_extra.get("reasoning_content") for each in deltas if each.model_extra]
    assert thought == ["well"]
    assert [each.choices[0].finish_reason for each in chunks if each.choices[0].finish_reason] == [
        "stop"
    ]
    assert {each.usage for each in chunks} == {None}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens > answer.usage.prompt_tokens
    assert [text for _role, text in world.history("sdk:1")] == [
        "hello there",
        "hello there",
        "!think well\nand how are you",
        "and how are you",
    ]
    check_log(world.gateway.folder)


def test_a_stream_without_include_usage_has_none_and_is_kept_alive_by_comments(
    world: World,
) -> None:
    body = {"messages": [{"role": "user", "content": "one two three"}], "stream": True}
    with world.gateway.stream(
        "/v1/chat/completions", method="POST", body=body, headers=AUTHORIZED
    ) as stream:
        raw = b"".join(stream.lines())
    assert b": heartbeat\n\n" in raw
    assert b"usage" not in raw
    assert raw.endswith(b"data: [DONE]\n\n")


def test_responses_go_on_by_the_id_of_the_one_before(world: World) -> None:
    first = world.client.responses.create(model="sessiond", input="hello there")
    assert first.status == "completed"
    assert first.output_text == "hello there"
    asked: Any = {
        "model": "demo/echo",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "go on then"}]}],
        "previous_response_id": first.id,
        "extra_headers": {"Idempotency-Key": "go on"},
    }
    with world.client.responses.stream(**asked) as stream:
        said = list(stream)
        second = stream.get_final_response()
    assert [each.sequence_number for each in said] == list(range(len(said)))
    assert [kind for kind, _run in itertools.groupby([each.type for each in said])] == RESPONSE
    assert len(said) > len(RESPONSE)
    whole = world.client.responses.create(**asked)
    told = {"created_at": whole.created_at, "output": whole.output}  # the SDK parses the output
    assert second.model_dump() | told == whole.model_dump() | told
    assert second.output_text == "go on then"
    assert second.previous_response_id == first.id
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_a_session_is_chosen_by_header_chat_or_user_and_else_thrown_away(world: World) -> None:
    say = ("user", "hi")
    complete(world.client, say, X_Session_Key="chosen:1", **{CHAT: "c-0"})
    complete(world.client, say, **{CHAT: "c-1"})
    complete(world.client, say, **{CHAT: "a chat/with spaces"})
    world.client.responses.create(model="sessiond", input="hi", user="someone@example.com")
    before = world.sessions()
    complete(world.client, say)
    (thrown,) = world.sessions() - before
    assert thrown.startswith("openai:once:")
    assert {"chosen:1", "openai:chat:c-1", "openai:user:someone@example.com"} <= before
    digested = [key for key in before if key.startswith("openai:chat:") and " " not in key]
    assert len(digested) == len([key for key in before if key.startswith("openai:chat:")])
    assert "openai:chat:c-0" not in before


def test_a_bound_token_stays_below_its_prefix_and_a_reader_prompts_nothing(world: World) -> None:
    complete(world.bound, ("user", "hi"), **{CHAT: "c-2"})
    complete(world.bound, ("user", "hi"))
    assert "team:openai:chat:c-2" in world.sessions()
    assert "openai:chat:c-2" not in world.sessions()
    with pytest.raises(openai.NotFoundError):
        complete(world.bound, ("user", "hi"), X_Session_Key="chosen:1")
    hidden = world.client.responses.create(model="sessiond", input="hi")
    with pytest.raises(openai.NotFoundError):
        world.bound.responses.create(model="sessiond", input="hi", previous_response_id=hidden.id)
    assert "sessiond" in [each.id for each in world.reader.models.list()]
    with pytest.raises(openai.AuthenticationError):
        client_of(world.gateway, "not a token").models.list()
    with pytest.raises(openai.PermissionDeniedError, match="prompt"):
        complete(world.reader, ("user", "hi"))


def test_an_empty_session_begins_with_what_the_client_has(world: World) -> None:
    told = world.told(
        ("system", "Be brief."),
        ("user", "two and two?"),
        ("assistant", ANSWER),
        ("user", "and three?"),
        chat="kept",
    )
    assert [each["content"] for each in told[-4:]] == [
        "Instructions of the client:\n\nBe brief.",
        "two and two?",
        ANSWER,
        "and three?",
    ]
    assert e.SessionImported in map(type, events(world.gateway.folder, "openai:chat:kept"))
    usage = world.client.chat.completions  # the same by the SDK, with what the provider counted
    world.provider.reply((Say(["ok"]), Finish("length", Usage(11, 7, 5, 0))))
    answer = usage.create(model="openai/llama", messages=[{"role": "user", "content": "hm"}])
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 16
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 5


def test_a_chat_that_goes_another_way_goes_on_in_a_session_beside(world: World) -> None:
    key = "openai:chat:branch"
    complete(world.client, ("user", "one"), **{CHAT: "branch"})
    going_on = [("user", "one"), ("assistant", "one"), ("user", "two")]
    complete(world.client, *going_on, **{CHAT: "branch"})
    kept = world.history(key)
    assert [text for _role, text in kept] == ["one", "one", "two", "two"]
    before = world.sessions()
    complete(world.client, ("user", "one, edited"), **{CHAT: "branch"})
    (aside,) = world.sessions() - before
    assert aside.startswith(f"{key}~")
    assert [text for _role, text in world.history(aside)] == ["one, edited"] * 2
    assert world.history(key) == kept
    edited = [("user", "one, edited"), ("assistant", "one, edited"), ("user", "and on")]
    for _attempt in range(2):
        complete(world.client, *edited, **{CHAT: "branch"}, Idempotency_Key="on")
    assert [text for _role, text in world.history(aside)] == ["one, edited"] * 2 + ["and on"] * 2
    assert world.history(key) == kept
    back = [*going_on, ("assistant", "two"), ("user", "three")]
    complete(world.client, *back, **{CHAT: "branch"})
    assert world.history(key)[-1] == ("assistant", "three")
    assert world.sessions() - before == {aside}


def test_a_clients_tasks_about_a_chat_are_never_in_its_session(world: World) -> None:
    title = "### Task:\nGenerate a concise title.\nUSER: hi\nASSISTANT: \n"
    before = world.sessions()
    complete(world.client, ("user", title), **{CHAT: "task"})  # the first of all
    complete(world.client, ("user", "hi"), **{CHAT: "task"})
    asked: Any = {"role": "user", "content": f"{LIBRECHAT_TITLE}, using title case conventions."}
    world.client.chat.completions.create(
        model="sessiond", messages=[asked], user="somebody", extra_headers={CHAT: "task"}
    )
    cited: Any = [{"role": "user", "content": "### Task:\nRespond to the query.\nho"}]
    list(
        world.client.chat.completions.create(
            model="sessiond", messages=cited, stream=True, extra_headers={CHAT: "cited"}
        )
    )
    complete(world.client, ("user", "emoji"), **{CHAT: "task"}, X_OpenWebUI_Task="emoji_generation")
    going_on = [("user", "hi"), ("assistant", "hi"), ("user", "ho")]
    complete(world.client, *going_on, **{CHAT: "task"})
    assert [text for _role, text in world.history("openai:chat:task")] == ["hi", "hi", "ho", "ho"]
    assert len(world.history("openai:chat:cited")) == 2  # what is streamed is somebody's
    others = world.sessions() - before - {"openai:chat:task", "openai:chat:cited"}
    assert len(others) == 3
    assert {each.rpartition(":")[0] for each in others} == {"openai:once"}, "nor in its user's"


def test_a_repeated_request_is_the_same_prompt(world: World) -> None:
    for headers in ({}, {"X_Session_Key": "again:1"}, {CHAT: "again"}):
        for _attempt in range(2):
            complete(world.client, ("user", "hi"), Idempotency_Key="once", **headers)
    for key in ("again:1", "openai:chat:again"):
        assert len(world.history(key)) == 2
    with pytest.raises(openai.UnprocessableEntityError):
        complete(world.client, ("user", "ho"), Idempotency_Key="once", X_Session_Key="again:1")


def test_a_model_is_chosen_by_provider_and_id_and_stays(world: World) -> None:
    world.provider.reply(*[(Say([ANSWER]), Finish())] * 2)
    for model in ("openai/llama", "sessiond"):
        say = ("user", "two and two?")
        assert complete(world.client, say, model=model, X_Session_Key="model:1") == ANSWER
    ids = [each.id for each in world.client.models.list()]
    assert ids[0] == "sessiond"
    assert {"demo/echo", "openai/llama"} <= set(ids)
    assert [world.client.models.retrieve(each).id for each in ids] == ids
    with pytest.raises(openai.NotFoundError) as unknown:
        world.client.models.retrieve("openai/gpt")
    assert unknown.value.code == "model_not_found"


def test_pictures_reach_the_model(world: World) -> None:
    world.provider.reply((Say(["A dot."]), Finish()))
    content: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    world.client.chat.completions.create(
        model="openai/llama", messages=[{"role": "user", "content": content}]
    )
    told = world.provider.requests[-1].body["messages"][-1]["content"]
    assert {"type": "image_url", "image_url": {"url": PICTURE}} in told
    content[1] = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(openai.UnprocessableEntityError, match="data URL"):
        world.client.chat.completions.create(
            model="sessiond", messages=[{"role": "user", "content": content}]
        )


def test_an_approval_is_asked_for_in_words(world: World) -> None:
    text = complete(
        world.client,
        ("user", 'please\n!write {"path": "a.txt", "content": "hello"}'),
        **{CHAT: "approve"},
    )
    key = "openai:chat:approve"
    (approval,) = world.gateway.get(f"/sessions/{key}/approvals", **AUTHORIZED).body["approvals"]
    assert text == f"please\n\n[Waiting for approval of write ({approval['id']}).]"
    answer = f"/sessions/{key}/approvals/{approval['id']}"
    assert world.gateway.post(answer, {"approved": True}, **AUTHORIZED).status == 200
    until(lambda: len(world.history(key)) == 4, "the run has ended")
    asked = 'please\n!write {"path": "a.txt", "content": "hello"}'
    complete(
        world.client, ("user", asked), ("assistant", text), ("user", "thanks"), **{CHAT: "approve"}
    )
    assert world.history(key)[-1] == ("assistant", "thanks")


def test_an_abort_ends_the_stream_with_an_error(world: World) -> None:
    stream = world.client.chat.completions.create(
        model="sessiond",
        messages=[{"role": "user", "content": words(400)}],
        stream=True,
        extra_headers={"X-Session-Key": "abort:1"},
    )
    pieces = (each.choices[0].delta.content for each in stream)
    said = list(itertools.islice(pieces, 3))
    world.gateway.post("/sessions/abort:1/abort", {}, **AUTHORIZED)
    with pytest.raises(openai.APIError, match="aborted"):
        said.extend(pieces)
    assert len(said) < 400


def test_a_client_that_leaves_does_not_end_the_run(world: World) -> None:
    stream = world.client.responses.create(
        model="sessiond",
        input=words(30),
        stream=True,
        extra_headers={"X-Session-Key": "leave:1"},
    )
    next(iter(stream))
    stream.close()
    until(lambda: len(world.history("leave:1")) == 2, "the run has ended")
    assert world.history("leave:1")[-1] == ("assistant", words(30))


def test_a_failed_run_is_an_error_and_not_asked_again(world: World) -> None:
    with pytest.raises(openai.InternalServerError, match="no such luck") as failed:
        complete(world.client, ("user", "!fail no such luck"), X_Session_Key="fail:1")
    assert failed.value.status_code == 502
    assert len([each for each in world.history("fail:1") if each[0] == "user"]) == 1
    events = list(
        world.client.responses.create(model="sessiond", input="!fail not again", stream=True)
    )
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert events[-1].response.error.message == "not again"
    world.provider.reply(*[Refuse(500, "broken")] * 2)
    with pytest.raises(openai.InternalServerError):
        complete(world.client, ("user", "hi"), model="openai/llama")


def test_what_would_be_answered_otherwise_is_refused_by_name(world: World) -> None:
    create: Callable[..., Any] = world.client.chat.completions.create
    messages = [{"role": "user", "content": "hi"}]
    before = world.sessions()
    for param, fields in UNSUPPORTED.items():
        with pytest.raises(openai.BadRequestError) as refused:
            create(model="sessiond", messages=messages, **fields)
        assert (refused.value.param, refused.value.code) == (param, "unsupported_value")
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="gpt-4o", messages=messages)
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.BadRequestError, match="last message"):
        create(model="sessiond", messages=[{"role": "assistant", "content": "hi"}])
    assert world.sessions() == before


def test_every_error_has_openais_envelope(world: World) -> None:
    gateway = world.gateway
    content = {"Content-Type": "text/plain", **AUTHORIZED}
    answers = [
        gateway.get("/v1/models"),
        gateway.get("/v1/nothing", **AUTHORIZED),
        gateway.post("/v1/chat/completions", {"messages": "no"}, **AUTHORIZED),
        gateway.request("POST", "/v1/responses", b"{", headers=AUTHORIZED),
        gateway.request("POST", "/v1/responses", b"{}", headers=content),
        gateway.get("/v1/responses", **AUTHORIZED),
    ]
    gateway.post("/sessions/busy:1/enqueue", {"text": words(400)}, **AUTHORIZED)
    gateway.post("/sessions/busy:1/enqueue", {"text": "next"}, **AUTHORIZED)
    prompt = {"input": "one too many"}
    busy = gateway.post("/v1/responses", prompt, **AUTHORIZED, **{"X-Session-Key": "busy:1"})
    with pytest.raises(openai.RateLimitError) as limited:
        complete(world.client.with_options(max_retries=0), ("user", "?"), X_Session_Key="busy:1")
    assert limited.value.code == "queue_full"
    assert limited.value.response.headers["Retry-After"] == "1"
    gateway.post("/sessions/busy:1/abort", {"queue": True}, **AUTHORIZED)
    too_large = {"input": "x" * BODY_BYTES}
    answers += [busy, gateway.post("/v1/responses", too_large, **AUTHORIZED)]
    assert [each.status for each in answers] == [401, 404, 422, 400, 415, 405, 429, 413]
    for answer in answers:
        assert set(answer.body["error"]) == {"message", "type", "param", "code"}
    elsewhere = gateway.get("/nothing", **AUTHORIZED)
    assert isinstance(elsewhere.body["error"], str)


def test_a_gateway_that_does_not_serve_it_says_so(open_gateway: OpenGateway) -> None:
    with open_gateway() as gateway:
        answer = gateway.post("/v1/chat/completions", {"messages": []})
        assert answer.status == 404
        assert "SESSIOND_OPENAI_ENDPOINT=true" in answer.body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("POST", "/v1/responses", {"input": "hi"}),
        ("POST", "/v1/responses", {"input": []}),
    ],
)
def test_an_answer_is_what_the_openapi_document_says(
    world: World, method: str, path: str, body: object
) -> None:
    document = world.gateway.get("/openapi.json", **AUTHORIZED).body
    content = None if body is None else json.dumps(body).encode()
    answer = world.gateway.request(method, path, content, headers=AUTHORIZED)
    said = document["paths"][path][method.lower()]["responses"][str(answer.status)]
    schema = said["content"]["application/json"]["schema"]
    jsonschema.validate(answer.body, {**schema, "components": document["components"]})

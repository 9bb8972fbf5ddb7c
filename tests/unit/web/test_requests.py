import pytest
from falcon import Request
from falcon.testing import create_environ

from web.errors import Problem
from web.inputs import ChatBody, ChatPrompt, HistoryQuery, MessagesBody, ResumeHeaders, seq_of
from web.keys import checked_key
from web.requests import read_object, typed_headers, typed_object, typed_query


def chat_prompt(body: dict[str, object]) -> ChatPrompt:
    return typed_object(body, ChatBody).found()


def limit_in(query: str) -> int | None:
    return typed_query(request(query=query), HistoryQuery, ("limit",)).limit


def request(body: bytes = b"", query: str = "", **headers: str) -> Request:
    return Request(create_environ(body=body, query_string=query, method="POST", headers=headers))


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_an_empty_body_is_an_empty_object(body: bytes) -> None:
    assert read_object(request(body), 100) == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b'{"a":NaN}', 400),
        (b'{"a":1e999}', 400),
        (b'{"a":"\xff"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        ("{}".encode("utf-16"), 400),
        (b"[" * 100_000, 413),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as refused:
        read_object(request(body), 1_000)
    assert refused.value.status == status


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(Problem, match="Invalid JSON body"):
        read_object(request(b'{"a":' + b"[" * 100_000), 1_000_000)


@pytest.mark.parametrize("text", [None, "", " \n", 7, ["a"]])
def test_a_prompt_needs_text(text: object) -> None:
    with pytest.raises(Problem, match="^Missing text$"):
        typed_object({"text": text}, MessagesBody)


def test_a_prompt_cannot_hold_nul() -> None:
    with pytest.raises(Problem) as refused:
        typed_object({"text": "a\x00b"}, MessagesBody)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"text": "a", "prompt": "b"}, ChatPrompt("a")),
        ({"text": " ", "prompt": "b"}, ChatPrompt("b")),
        ({"messages": [{"role": "user", "content": "a"}]}, ChatPrompt("a")),
        (
            {
                "messages": [
                    {"role": "user", "content": "old"},
                    {
                        "role": "user",
                        "id": "m1",
                        "parts": [
                            {"type": "text", "text": "a"},
                            {"type": "source-url", "url": "x"},
                            {"type": "text", "text": "b"},
                        ],
                    },
                    {"role": "assistant", "content": "later"},
                ]
            },
            ChatPrompt("a\nb", "m1"),
        ),
    ],
)
def test_a_chat_prompt_is_found_where_clients_put_it(
    body: dict[str, object], prompt: ChatPrompt
) -> None:
    assert chat_prompt(body) == prompt


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": "x"},
        {"messages": [7, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": "old"}, {"role": "user", "parts": []}]},
        {"messages": [{"role": "user", "parts": [{"type": "text", "text": " "}]}]},
    ],
)
def test_a_last_user_message_without_text_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(Problem, match="^Missing user message text$"):
        chat_prompt(body)


@pytest.mark.parametrize("value", ["-1", "0", "1_0", "٣", "1e9", "2.9", "5abc", "9" * 3_900])
def test_a_limit_is_a_positive_integer(value: str) -> None:
    with pytest.raises(Problem, match="^History limit must be a positive integer$"):
        limit_in(f"limit={value}")


def test_a_limit_can_be_left_out_or_empty() -> None:
    assert limit_in("") is None
    assert limit_in("limit=") is None
    assert limit_in("limit=12") == 12


def test_a_place_in_the_log_is_a_seq_or_a_messages_id() -> None:
    assert seq_of(None) is None
    assert seq_of("7") == 7
    assert seq_of("4d1a:7") == 7


@pytest.mark.parametrize("place", ["", "x", "-1", "1.5", "٣", "1,2"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(Problem) as refused:
        typed_headers(request(**{"Last-Event-ID": place}), ResumeHeaders)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "key", ["web:main", "a", "webhook:slack:bob", "é", "日本", "a.b_c~d@e+f=g-h"]
)
def test_a_key_is_used_as_it_is(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize(
    "key", ["", ".", "..", "a b", "a/b", "a\x00", "a\r\n", "a%", "\ufffd", "e\u0301", "x" * 201]
)
def test_a_key_that_could_mean_something_else_is_refused(key: str) -> None:
    with pytest.raises(Problem) as refused:
        checked_key(key)
    assert refused.value.status == 400

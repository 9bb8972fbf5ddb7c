"""Which trace a request is part of, and a run."""

import pytest

from actors.runs.tracing import (
    TraceContext,
    caller_of,
    read_traceparent,
    read_tracestate,
    span_id_of,
    trace_id_of,
    traced_request,
)
from actors.session.state import Run

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
HEADER = f"00-{TRACE_ID}-{SPAN_ID}-01"


def run_of(trace: str, prompt_id: str = "p", tracestate: str = "") -> Run:
    return Run(prompt_id, "test", "tester", 0, 1, 1, trace=trace, tracestate=tracestate)


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (HEADER, True),
        (f" {HEADER} ", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_callers_trace_is_read(header: str, sampled: bool) -> None:
    assert read_traceparent(header) == TraceContext(TRACE_ID, SPAN_ID, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        HEADER.upper(),
        f"{HEADER}-more",
        f"{HEADER}0",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
    ],
)
def test_what_is_no_trace_is_not_taken_over(header: str) -> None:
    assert read_traceparent(header) is None
    assert traced_request(header, begin=False) == ""
    assert TRACE_ID not in traced_request(header, begin=True)


@pytest.mark.parametrize(
    ("header", "goes_on"),
    [
        ("", ""),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" a=1 ,\t,b=2,", "a=1,b=2"),
        ("4tenant@vendor=x y,a*-/_9=!~", "4tenant@vendor=x y,a*-/_9=!~"),
        (f"a={'v' * 256}", f"a={'v' * 256}"),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
    ],
)
def test_a_tracestate_goes_on_as_it_came(header: str, goes_on: str) -> None:
    assert read_tracestate(header) == goes_on


@pytest.mark.parametrize(
    "header",
    [
        "a",
        "a=",
        "=1",
        "A=1",
        "9a=1",
        "a =1",
        "a=1=2",
        "a=1,a=2",
        "a=é",
        "a=1\x7f",
        "a@9x=1",
        f"a={'v' * 257}",
        f"{'a' * 257}=1",
        "a=1,b",
        ",".join(f"k{n}=v" for n in range(33)),
    ],
)
def test_a_tracestate_with_anything_wrong_does_not_go_on(header: str) -> None:
    assert read_tracestate(header) == ""


def test_a_tracestate_that_is_too_long_loses_its_longest_members_then_its_oldest() -> None:
    long, short = f"long={'v' * 200}", [f"k{n}={'v' * 97}" for n in range(5)]
    assert read_tracestate(",".join([long, *short])) == ",".join(short)
    assert read_tracestate(",".join([*short, f"k5={'v' * 97}"])) == ",".join(short)
    exact = ",".join([*short, "k5=" + "v" * (512 - 5 * 101 - 3)])
    assert len(exact) == 512
    assert read_tracestate(exact) == exact


def test_what_the_log_keeps_says_which_trace_it_was() -> None:
    assert traced_request(HEADER, begin=True) == HEADER
    assert trace_id_of(HEADER) == TRACE_ID
    begun = traced_request(None, begin=True)
    assert trace_id_of(begun) == begun
    assert trace_id_of("") == ""


def test_a_runs_place_in_its_trace_is_the_same_in_every_process() -> None:
    assert caller_of(run_of(HEADER)) == TraceContext(TRACE_ID, SPAN_ID)
    assert caller_of(run_of(HEADER, tracestate="a=1")) == TraceContext(
        TRACE_ID, SPAN_ID, state="a=1"
    )
    assert caller_of(run_of(TRACE_ID)) == TraceContext(TRACE_ID)
    assert caller_of(run_of("")) == caller_of(run_of(""))
    assert caller_of(run_of("")) != caller_of(run_of("", "another"))
    assert span_id_of(run_of(HEADER)) == span_id_of(run_of(HEADER))
    assert span_id_of(run_of(HEADER)) != span_id_of(run_of(HEADER, "another"))

from actors.replay import replay, stream_of
from actors.session.state import SessionState
from actors.tail import LOG_CHUNK_BYTES, LOG_CHUNK_EVENTS_MIN, Tail
from tests.unit.actors.world import World

LARGE = "x" * (LOG_CHUNK_BYTES // 2)


def test_who_is_behind_gets_the_log_in_parts_that_fit_into_memory(world: World) -> None:
    for text in [*["small"] * 20, *[LARGE] * 4, *["small"] * 4]:
        watch = world.prompt("k", text)
        watch.until("run.completed")
        watch.close()  # what nobody reads is in the log only
    head = world.log.head(stream_of("k"))
    assert head is not None
    state, reader = world.registry.reader("k")
    reader.after = 0
    tail = Tail(world.log, "k", reader)
    parts = []
    while reader.after < state.version:
        parts.append(tail.next(0))
    tail.close()
    logged, _ = replay(world.log, head, SessionState("k"))
    assert [(each.seq, each.event, each.state) for part in parts for each in part] == [
        (each.seq, each.event, each.state) for each in logged
    ]
    for part in parts:
        assert sum(each.size for each in part[:-1]) < LOG_CHUNK_BYTES
    assert max(map(len, parts)) > LOG_CHUNK_EVENTS_MIN
    assert min(map(len, parts)) < LOG_CHUNK_EVENTS_MIN

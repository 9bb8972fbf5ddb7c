"""Which erased payloads a stream accounts for, against sets of seqs."""

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.audit.verifying.coverage import Coverage
from actors.session.record_events import StreamErased

ranges = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=4).map(tuple)
steps = st.lists(st.sampled_from(["text.delta", "message.completed"]) | st.none() | ranges)


@settings(deadline=None)
@given(steps)
def test_coverage_is_what_sets_of_seqs_say(steps) -> None:
    coverage, gone, recorded = Coverage(), {}, 0
    for seq, step in enumerate(steps, start=1):
        if isinstance(step, str):
            coverage.erased(seq, step)
            gone[seq] = step
        elif step is not None:
            before = tuple([(first, last) for first, last in step if last < seq])
            coverage.covered(StreamErased("r", "reason", before, 0))
            covered = {at for at in gone if any(first <= at <= last for first, last in before)}
            recorded += len(covered)
            gone = {at: name for at, name in gone.items() if at not in covered}
    deltas = [at for at, name in gone.items() if name == "text.delta"]
    unexplained = [at for first, last in coverage.unexplained for at in range(first, last + 1)]
    assert (coverage.recorded, coverage.by_retention) == (recorded, len(deltas))
    assert unexplained == [at for at in gone if at not in deltas]

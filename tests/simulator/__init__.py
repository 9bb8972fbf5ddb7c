"""Several processes over one store, simulated: one thread, one seed, the same trace every time.

What decides and what stores is the real code: the pure core, SessionActor on Pykka's own loop,
SessionRegistry, Upkeep, Questions, Ownership's serving, Feed, Tail, replay, the codec of the
inbox, InMemoryEventLog. Simulated are the scheduler (greenlets in place of threads), clocks,
leases and inbox rows, the group commit, the models and tools of runs, clients and readers.
"""

"""The pure core of a session: events, commands, state, and what follows from them."""

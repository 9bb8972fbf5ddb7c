"""``python -m tests.chaos --seconds 300``: the long form, with what it measured."""

import argparse
import tempfile
from pathlib import Path

from tests.chaos.checks import summary_of
from tests.chaos.run import Size, run
from tests.postgres.server import running_server


def main() -> None:
    """Run it once and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=5)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--prompting", type=int, default=12)
    parser.add_argument("--reading", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--on-crash", default="interrupt")
    given = parser.parse_args()
    size = Size(given.seconds, given.kill_every, given.sessions, given.prompting, given.reading)
    with (
        running_server() as server,
        server.database() as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        report = run(Path(folder), url, size, given.seed, on_crash=given.on_crash)
    print(  # noqa: T201 - it is asked for
        f"{report.deaths} workers killed; {report.acknowledged} prompts acknowledged, each ended"
        f" once; {report.events} events; {report.frames} frames read, all as in the log;"
        f" {summary_of(report.waited_s)}"
    )


if __name__ == "__main__":
    main()

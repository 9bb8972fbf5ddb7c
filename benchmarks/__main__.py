"""Run all benchmarks, or the named ones: ``python -m benchmarks [--quick] [NAME ...]``."""

import argparse
import importlib
import time

from benchmarks._measure import Result, table

NAMES = (
    "appends",
    "chain",
    "checkpoints",
    "postgres",
    "processes",
    "replay",
    "verify",
    "deltas",
    "http",
    "fanout",
    "history",
    "time_travel",
    "memory",
    "recall",
    "cancel",
)


def main() -> None:
    """Print one table; exit with 0 whether or not the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller sizes")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    rows: list[tuple[str, Result]] = []
    for name in arguments.names or NAMES:
        began = time.monotonic()
        results = importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        rows.extend([(name, result) for result in results])
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()

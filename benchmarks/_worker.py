"""One measurement in a process of its own: ``python -m benchmarks._worker gevent a.b:c``.

Arguments come as JSON by standard input, the result goes out so. Under ``gevent`` the process is
patched before anything else is imported.
"""

import importlib
import json
import subprocess
import sys
from typing import Any, Literal

Kind = Literal["gevent", "threads"]


def in_process(kind: Kind, function: str, **arguments: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Call ``module:function`` in a new process of that kind; return what it returns."""
    command = [sys.executable, "-m", "benchmarks._worker", kind, function]
    given = json.dumps(arguments).encode()
    done = subprocess.run(command, check=True, input=given, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _main() -> None:
    kind, function = sys.argv[1:]
    if kind == "gevent":
        from gevent import monkey

        monkey.patch_all()
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    print(json.dumps(call(**json.load(sys.stdin))))


if __name__ == "__main__":
    _main()

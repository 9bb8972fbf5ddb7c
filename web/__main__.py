"""The program ``sessiond``: takes Ctrl-C before anything else is there to take it."""

import signal


def main() -> None:
    """Run the command line."""
    quiet = signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends imports without a traceback
    from web.cli.main import main as commands

    signal.signal(signal.SIGINT, quiet)
    commands()


if __name__ == "__main__":
    main()

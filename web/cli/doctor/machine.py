"""What ``sessiond doctor`` checks on this machine: files, space, limits, ports, the sandbox."""

import os
import platform
import resource
import shutil
import socket
import stat
from pathlib import Path

from web.cli.client import Client, Refused, Unreachable, own_url
from web.cli.doctor.findings import Finding, Findings, fail, ok, warn
from web.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, is_loopback

SPACE_BYTES_WARN = 2 * 1024**3
SPACE_BYTES_FAIL = 100 * 1024**2
TOKEN_CHARACTERS_MIN = 16
DESCRIPTORS_SPARE = 128
PROBE_TIMEOUT_S = 3.0


def check_program(settings: Settings) -> Findings:
    """Say what runs, and where its settings come from."""
    from importlib.metadata import version

    yield ok("program", f"sessiond {version('sessiond')}, Python {platform.python_version()}")
    file = os.environ.get(CONFIG_VARIABLE)
    given = sorted(settings.model_fields_set)
    source = f"{file}, flags and variables" if file else "flags and variables"
    yield ok("settings", f"{', '.join(given)} from {source}" if given else "all are the defaults")


def check_files(settings: Settings) -> Findings:
    """Look whether the folders can be written, and who can read what is secret."""
    for name, folder in _folders(settings):
        yield _writable(name, folder)
    for path in _secrets(settings):
        if path.is_file():
            yield _private(path)


def _folders(settings: Settings) -> list[tuple[str, Path]]:
    database = database_file(settings)
    folders = [] if database is None else [("database", database.parent)]
    if settings.tools != "none":
        folders.append(("workspaces", Path(settings.workspaces_dir)))
    return [(name, folder.absolute()) for name, folder in folders]


def database_file(settings: Settings) -> Path | None:
    """Return the file of an SQLite database, None for another. Raises PersistenceError."""
    from persistence.engine import is_sqlite, parse_url

    url = parse_url(settings.database_url)
    return Path(url.database or "") if is_sqlite(url) else None


def _secrets(settings: Settings) -> list[Path]:
    from web.signing import key_path

    config = os.environ.get(CONFIG_VARIABLE)
    found = [key_path(settings), settings.encryption_key_file, config, database_file(settings)]
    return [Path(each) for each in found if each]


def _writable(name: str, folder: Path) -> Finding:
    there = _nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        made = f"Run: sudo install -d -o {_user()} -m 700 {folder}"
        own = how_to_own(there) if there == folder else made
        todo = f"{own} (or name another folder by the settings)."
        return fail("files", f"The folder of the {name}, {folder}, can't be written.", todo)
    new = "" if folder == there else " (not made yet)"
    return ok("files", f"the folder of the {name}, {folder}{new}, can be written")


def _private(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK):
        return fail("files", f"{path} can't be read.", f"{how_to_own(path)}.")
    if mode & 0o077 and path.absolute().parent.stat().st_mode & 0o011:
        said = f"{path} can be read or written by others (mode {mode:o})."
        return warn("files", said, f"Run: chmod 600 {path}")
    return ok("files", f"{path} is its owner's alone")


def may_change(file: Path) -> bool:
    """Tell whether this user may read and write a file, and others beside it."""
    return os.access(file, os.R_OK | os.W_OK) and os.access(file.parent, os.W_OK | os.X_OK)


def how_to_own(path: Path) -> str:
    """Return what lets this user read and write a file or a folder."""
    mode = "700" if path.is_dir() else "600"
    if path.stat().st_uid == os.geteuid():
        return f"Run: chmod {mode} {path}"
    return f"Run: sudo chown {_user()} {path} && sudo chmod {mode} {path}"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def check_space(settings: Settings) -> Findings:
    """Look how much room the disks have."""
    seen: set[int] = set()
    for name, folder in _folders(settings):
        there = _nearest(folder)
        device = there.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _space(name, there)


def _space(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    said = f"{free / 1024**3:,.1f} GiB are free for the {name} at {folder}"
    if free < SPACE_BYTES_FAIL:
        return fail("disk", said, "Make room: without it nothing is written, and prompts fail.")
    if free < SPACE_BYTES_WARN:
        return warn("disk", said, "Make room soon, or have old sessions erased: retention.")
    return ok("disk", said)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def check_limits(settings: Settings) -> Findings:
    """Look whether a worker may hold as many connections open as the settings say."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = settings.connections_max if settings.worker_class == "gevent" else settings.threads
    wanted = held + DESCRIPTORS_SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        said = f"A process may open {soft} files; {held} connections need about {wanted}."
        raised = "LimitNOFILE= of its unit, or ulimit -n before the start"
        smaller = f"; or set {ENV_PREFIX}CONNECTIONS_MAX lower (it may be raised to {hard})"
        yield warn("limits", said, f"Raise it by {raised}{smaller}.")
    else:
        yield ok("limits", f"a process may open {soft} files")


def check_sandbox(settings: Settings) -> Findings:
    """Try what confines commands, and load tools of one's own."""
    from actors.tools.custom import load_custom_tools
    from actors.tools.sandbox import SandboxUnavailable, probe
    from actors.tools.schema import ToolConfigError

    try:
        name = probe(settings).name
    except SandboxUnavailable as error:
        yield fail("sandbox", str(error), "Set sandbox to auto, or install what it names.")
    else:
        used = "" if settings.tools == "all" else f" (unused: tools is {settings.tools})"
        yield _confined(name, used)
    try:
        load_custom_tools(settings.tool_modules)
    except ToolConfigError as error:
        yield fail("tools", str(error), "Mend the module, or take it out of tool_modules.")


def _confined(name: str, used: str) -> Finding:
    if name != "none":
        return ok("sandbox", f"{name} confines commands{used}")
    if used:
        return ok("sandbox", f"nothing would confine commands here{used}")
    todo = "Install bubblewrap (apt install bubblewrap); until then each command is asked about."
    return warn("sandbox", "Nothing confines commands here.", todo)


def check_address(settings: Settings) -> Findings:
    """Look whether the address is safe to listen on, and whether a gateway can or does."""
    token = None if settings.token is None else settings.token.get_secret_value()
    if token is not None and len(token) < TOKEN_CHARACTERS_MIN:
        todo = f'Set {ENV_PREFIX}TOKEN="$(openssl rand -hex 32)".'
        yield warn("token", f"The token has {len(token)} characters: it can be guessed.", todo)
    elif token is not None:
        yield ok("token", "there is one in the settings, which may do everything")
    elif is_loopback(settings.bind):
        yield ok("token", "none in the settings; this machine's own addresses only are served")
    yield _listening(settings, token)


def _listening(settings: Settings, token: str | None) -> Finding:
    url = own_url(settings)
    try:
        answer = Client(url, token).call("GET", "/health", timeout_s=PROBE_TIMEOUT_S)
    except (Refused, Unreachable):
        return _bindable(settings)
    if not isinstance(answer, dict) or "ready" not in answer:
        return fail("port", f"Another program answers at {url}.", "Choose another --port.")
    if not answer["ready"]:
        return warn("port", f"The gateway at {url} starts or stops.", "Ask again in a moment.")
    return ok("port", f"a gateway answers at {url}, and is ready")


def _bindable(settings: Settings) -> Finding:
    """Try to listen there."""
    host, port = settings.bind.strip("[]"), settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        todo = "Choose another --port or --bind, or stop what is there."
        return fail("port", f"{host}:{port} can't be listened on: {error.strerror}.", todo)
    return ok("port", f"{host}:{port} is free: no gateway runs there now")

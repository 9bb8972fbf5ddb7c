import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.tools.base import ToolError
from actors.tools.workspace import SEEN_AS, Entry, Workspace

SECRET = "the canary"
SWAPS = 100
DEADLINE_S = 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty workspace beside a folder that holds a secret."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def workspace(root: Path) -> Workspace:
    return Workspace(root)


@pytest.fixture(autouse=True)
def nothing_outside_changes(root: Path) -> Iterator[None]:
    yield
    outside = root.parent / "outside"
    assert [each.name for each in outside.iterdir()] == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == SECRET
    assert sorted(each.name for each in root.parent.iterdir()) == ["outside", "workspace"]


def symlink_to_a_file(root: Path) -> str:
    (root / "link").symlink_to(root.parent / "outside/secret.txt")
    return "link"


def relative_symlink(root: Path) -> str:
    (root / "link").symlink_to("../outside/secret.txt")
    return "link"


def symlink_to_a_folder(root: Path) -> str:
    (root / "folder").symlink_to(root.parent / "outside")
    return "folder/secret.txt"


def chain_of_symlinks(root: Path) -> str:
    (root / "a").mkdir()
    (root / "a/b").symlink_to("../c")
    (root / "c").symlink_to("a/../d")
    (root / "d").symlink_to("../outside")
    return "a/b/secret.txt"


def symlink_above_a_symlink(root: Path) -> str:
    (root / "deep/er").mkdir(parents=True)
    (root / "up").symlink_to("deep/er")
    (root / "deep/er/out").symlink_to("../../../outside")
    return "up/out/secret.txt"


def parent_of_a_symlinked_folder(root: Path) -> str:
    (root / "in").symlink_to(root)
    return "in/../outside/secret.txt"


def symlink_to_the_file_systems_root(root: Path) -> str:
    (root / "slash").symlink_to("/")
    return f"slash{root.parent}/outside/secret.txt"


def symlink_through_proc(root: Path) -> str:
    (root / "proc").symlink_to("/proc/self/root")
    return f"proc{root.parent}/outside/secret.txt"


def symlink_to_the_current_folder_of_the_process(root: Path) -> str:
    (root / "cwd").symlink_to("/proc/self/cwd")
    return "cwd/secret.txt"


ESCAPES: list[Callable[[Path], str]] = [
    symlink_to_a_file,
    relative_symlink,
    symlink_to_a_folder,
    chain_of_symlinks,
    symlink_above_a_symlink,
    parent_of_a_symlinked_folder,
    symlink_to_the_file_systems_root,
    symlink_through_proc,
    symlink_to_the_current_folder_of_the_process,
    lambda root: "../outside/secret.txt",
    lambda root: "x/../../outside/secret.txt",
    lambda root: "./.././outside/secret.txt",
    lambda root: f"{root.parent}/outside/secret.txt",
    lambda root: f"//{root.parent}/outside/secret.txt",
    lambda root: f"{root}/../outside/secret.txt",
    lambda root: f"{root}2/secret.txt",
    lambda root: f"{SEEN_AS}/../outside/secret.txt",
    lambda root: f"/proc/self/root{root.parent}/outside/secret.txt",
    lambda root: "~/../../outside/secret.txt",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_path_leads_out(root: Path, workspace: Workspace, escape: Callable[[Path], str]) -> None:
    path = escape(root)
    for use in (
        lambda: workspace.read(path, 1_000),
        lambda: workspace.write(path, b"overwritten"),
        lambda: workspace.write(f"{path.removesuffix('/secret.txt')}/new", b"written"),
        lambda: workspace.stat(path),
        lambda: workspace.folder(path.removesuffix("/secret.txt")),
        lambda: list(workspace.walk(path.removesuffix("/secret.txt"))),
    ):
        with pytest.raises(ToolError):
            use()


def test_a_path_that_leads_out_is_told_so(workspace: Workspace) -> None:
    with pytest.raises(ToolError, match=r"^\.\./x is outside the workspace\."):
        workspace.read("../x", 10)
    with pytest.raises(ToolError, match="^/etc/passwd is outside the workspace"):
        workspace.read("/etc/passwd", 10)


def test_nothing_is_written_through_a_dangling_symlink(root: Path, workspace: Workspace) -> None:
    (root / "link").symlink_to(root.parent / "outside/new.txt")
    with pytest.raises(ToolError, match="outside the workspace"):
        workspace.write("link", b"x")


def test_symlinks_inside_are_followed(root: Path, workspace: Workspace) -> None:
    (root / "real").mkdir()
    (root / "real/file").write_text("here")
    (root / "folder").symlink_to("real")
    (root / "absolute").symlink_to(root / "real/file")
    (root / "in_the_sandbox").symlink_to(f"{SEEN_AS}/real/file")
    (root / "real/up").symlink_to("../folder/file")
    for path in ("folder/file", "absolute", "in_the_sandbox", "real/up", "folder/../real/file"):
        assert workspace.read(path, 100) == b"here", path
        assert workspace.path_of(path) == "real/file"
    workspace.write("absolute", b"changed")
    assert (root / "absolute").is_symlink()
    assert (root / "real/file").read_text() == "changed"


def test_absolute_paths_that_begin_with_the_workspace_are_taken(
    root: Path, workspace: Workspace
) -> None:
    (root / "file").write_text("here")
    for path in (f"{root}/file", f"{SEEN_AS}/file", f"/{SEEN_AS}//./file/"):
        assert workspace.read(path, 100) == b"here"
    for path in (".", SEEN_AS, str(root), f"{SEEN_AS}/."):
        assert workspace.path_of(path) == "."


def test_loops_of_symlinks_end(root: Path, workspace: Workspace) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to("self/self")
    (root / "here").symlink_to(".")
    for path in ("a", "a/x", "self", "/".join(["here"] * 50)):
        with pytest.raises(ToolError, match="too many symlinks"):
            workspace.read(path, 10)
        with pytest.raises(ToolError, match="too many symlinks"):
            workspace.write(path, b"x")


def test_pipes_sockets_and_devices_are_refused_without_waiting(
    root: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)
    names = ["pipe", "socket"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        try:
            os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            names.append("null")
        except PermissionError:  # takes root
            pass
        for name in names:  # whoever opens a pipe as if it were a file waits for ever
            with pytest.raises(ToolError, match="is not a regular file"):
                workspace.read(name, 10)
            with pytest.raises(ToolError, match="is not a regular file"):
                workspace.write(name, b"x")
    kinds = {each.name: each.kind for each in workspace.folder(".").entries}
    assert set(kinds.values()) == {"other"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "empty"),
        ("a\x00b", "NUL"),
        ("a" * 300, "too long"),
        ("a/" * 3_000, "4096 characters"),
        ("a/" * 300, "too many folders"),
        ("\ud800", "half a character"),
    ],
)
def test_hard_names_are_refused_in_words(
    workspace: Workspace, root: Path, name: str, sentence: str
) -> None:
    for use in (lambda: workspace.write(name, b"x"), lambda: workspace.folder(name)):
        if name == "a/" * 300 and use.__code__.co_names[0] == "folder":
            continue  # the first of them is missing already
        with pytest.raises(ToolError, match=sentence):
            use()


def test_names_of_any_bytes_can_be_listed_and_opened(root: Path, workspace: Workspace) -> None:
    for name in ("-rf", "a b", "new\nline", "ü", "*", "\\", "'\""):
        workspace.write(name, name.encode())
        assert (root / name).read_bytes() == workspace.read(name, 100) == name.encode()
    try:
        (root / os.fsdecode(b"\xff")).write_text("odd")
    except OSError:  # the file system takes text only
        return
    assert workspace.read(os.fsdecode(b"\xff"), 100) == b"odd"


def swap_folder(root: Path, done: threading.Event) -> None:
    """Put a symlink to the outside in a folder's place and back, again and again."""
    there, aside, link = root / "folder", root / "aside", root / "link"
    while not done.is_set():
        there.rename(aside)
        link.symlink_to(root.parent / "outside")
        put(link, there)
        there.unlink()
        put(aside, there)


def swap_file(root: Path, done: threading.Event) -> None:
    """Put a symlink to the outside in a file's place and back, again and again."""
    there, other = root / "folder/secret.txt", root / "other"
    while not done.is_set():
        other.symlink_to(root.parent / "outside/secret.txt")
        other.rename(there)
        other.write_text("mine")
        other.rename(there)


def put(what: Path, there: Path) -> None:
    """Rename it, in the place of a folder that a write may have made meanwhile."""
    while True:
        with suppress(OSError):
            what.rename(there)
            return
        shutil.rmtree(there, ignore_errors=True)


def use_while(
    workspace: Workspace,
    swapping: Callable[[threading.Event], None],
    *uses: Callable[..., None],
    swaps: int = SWAPS,
) -> None:
    """Use it until it was often done and often refused, while something is swapped."""
    done = threading.Event()
    thread = threading.Thread(target=swapping, args=(done,))
    thread.start()
    counts = {"done": 0, "refused": 0}
    deadline = time.monotonic() + DEADLINE_S
    try:
        while min(counts.values()) < swaps and time.monotonic() < deadline:
            for use in uses:
                try:
                    use(workspace)
                    counts["done"] += 1
                except ToolError:
                    counts["refused"] += 1
    finally:
        done.set()
        thread.join()
    assert min(counts.values()) >= swaps


def test_a_folder_that_is_swapped_for_a_symlink_meanwhile_leads_nowhere(
    root: Path, workspace: Workspace
) -> None:
    workspace.write("folder/secret.txt", b"mine")
    workspace.write("folder/mine", b"")
    use_while(workspace, lambda done: swap_folder(root, done), read_mine, write_mine, walk_mine)


def test_a_file_that_is_swapped_for_a_symlink_meanwhile_is_not_followed(
    root: Path, workspace: Workspace
) -> None:
    workspace.write("folder/secret.txt", b"mine")
    use_while(
        workspace, lambda done: swap_file(root, done), *[read_mine] * 9, write_mine, swaps=800
    )


def read_mine(workspace: Workspace) -> None:
    assert workspace.read("folder/secret.txt", 100) == b"mine"


def write_mine(workspace: Workspace) -> None:
    workspace.write("folder/new", b"mine")


def walk_mine(workspace: Workspace) -> None:
    for folder in workspace.walk("folder"):
        assert folder.entries != [Entry("folder/secret.txt", "file")]


def test_a_write_replaces_the_whole_file_and_keeps_its_permissions(
    root: Path, workspace: Workspace
) -> None:
    workspace.write("a/b/script", b"one")
    (root / "a/b/script").chmod(0o751)
    with workspace.open_file("a/b/script") as reader:
        workspace.write("a/b/script", b"two")
        assert reader.read() == b"one"
    assert (root / "a/b/script").read_bytes() == b"two"
    assert stat.S_IMODE((root / "a/b/script").stat().st_mode) == 0o751
    assert [each.name for each in (root / "a/b").iterdir()] == ["script"]


def test_a_write_that_fails_leaves_nothing_behind(root: Path, workspace: Workspace) -> None:
    (root / "folder").mkdir()
    (root / "kept").write_text("kept")
    (root / "kept").chmod(0o444)
    with pytest.raises(ToolError, match="folder is a folder"):
        workspace.write("folder", b"x")
    with pytest.raises(ToolError, match="kept is read-only"):
        workspace.write("kept", b"x")
    with pytest.raises(ToolError, match="not a folder"):
        workspace.write("kept/below", b"x")
    with pytest.raises(TypeError):
        workspace.write("new", "no bytes")  # type: ignore[arg-type]
    assert sorted(each.name for each in root.iterdir()) == ["folder", "kept"]
    assert (root / "kept").read_text() == "kept"


def test_a_file_larger_than_allowed_is_refused(workspace: Workspace) -> None:
    workspace.write("file", b"x" * 11)
    assert len(workspace.read("file", 11)) == 11
    with pytest.raises(ToolError, match="larger than 10 bytes"):
        workspace.read("file", 10)


def test_a_folder_is_listed_by_name_and_says_when_that_is_not_all(
    root: Path, workspace: Workspace
) -> None:
    for name in ("b", ".hidden", "a/x"):
        workspace.write(name, b"")
    (root / "link").symlink_to("a")
    folder = workspace.folder(".")
    assert folder.whole
    assert folder.entries == [
        Entry(".hidden", "file"),
        Entry("a", "folder"),
        Entry("b", "file"),
        Entry("link", "link"),
    ]
    assert workspace.folder("link").entries == [Entry("a/x", "file")]
    part = workspace.folder(".", 2)
    assert (len(part.entries), part.whole) == (2, False)


def test_a_walk_goes_by_name_and_enters_neither_symlinks_nor_what_is_taken_out(
    root: Path, workspace: Workspace
) -> None:
    for path in ("b/c/file", "a/file", "skipped/file"):
        workspace.write(path, b"")
    (root / "a/out").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to(".")
    walked = []
    for folder in workspace.walk("."):
        folder.entries = [each for each in folder.entries if each.name != "skipped"]
        walked.append(folder.path)
    assert walked == [".", "a", "b", "b/c"]


def test_a_walk_is_bounded(workspace: Workspace) -> None:
    for number in range(5):
        workspace.write(f"{number}/file", b"")
    folders = list(workspace.walk(".", entries_max=7))
    assert sum(len(folder.entries) for folder in folders) == 7
    assert [folder.whole for folder in folders] == [True, True, True, False]
    assert all(folder.whole for folder in workspace.walk(".", entries_max=10))


def test_nothing_stays_open(root: Path, workspace: Workspace) -> None:
    open_files = Path("/dev/fd")
    (root / "link").symlink_to("..")
    workspace.write("a/b/c", b"x")
    before = len(list(open_files.iterdir()))
    for path in ("a/b/c", "a/../a/b/c", "missing/x", "link", "a/b/c/d", "../x"):
        with suppress(ToolError):
            workspace.read(path, 9)
        with suppress(ToolError):
            list(workspace.walk(path))
    list(workspace.walk("."))
    assert len(list(open_files.iterdir())) == before


@pytest.mark.parametrize("call_id", ["call_1", "../../outside/x", "a/b", "", "\ud800", "x" * 999])
def test_the_output_of_any_call_has_a_place_of_its_own(
    root: Path, workspace: Workspace, call_id: str
) -> None:
    path = workspace.write_output(call_id, b"output")
    assert path == workspace.output_path(call_id)
    assert path.startswith(".sessiond/output/")
    assert (root / path).read_bytes() == b"output"
    assert (root / path).resolve().parent == (root / ".sessiond/output").resolve()
    workspace.write_output(call_id, b"new")
    assert (root / path).read_bytes() == b"new"
    assert (root / ".sessiond/output/.gitignore").read_text() == "*\n"


def test_ids_that_differ_have_outputs_that_differ(workspace: Workspace) -> None:
    assert workspace.output_path("a/b") != workspace.output_path("a.b")
    assert workspace.output_path("x" * 200) != workspace.output_path("x" * 201)


def test_output_is_not_kept_where_a_symlink_leads(root: Path, workspace: Workspace) -> None:
    path = root / workspace.output_path("call")
    (root / ".sessiond").mkdir()
    (root / ".sessiond/output").symlink_to(root.parent / "outside")
    with pytest.raises(ToolError, match="outside the workspace"):
        workspace.write_output("call", b"x")
    (root / ".sessiond/output").unlink()
    path.parent.mkdir()
    path.symlink_to(root.parent / "outside/secret.txt")
    with pytest.raises(ToolError, match="outside the workspace"):
        workspace.write_output("call", b"x")
    path.unlink()
    os.mkfifo(path)
    assert workspace.write_output("call", b"x")
    assert path.read_bytes() == b"x"

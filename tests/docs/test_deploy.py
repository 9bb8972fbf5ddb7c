"""What an operator is told exists, and fits what the program does."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from web.app import ROUTES
from web.cli.main import main
from web.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs/deploy"
PAGES = sorted(DEPLOY.glob("*.md"))
FILES = [
    *PAGES,
    *(DEPLOY / name for name in ("nginx.conf", "nginx-upstream.conf", "sessiond.service")),
    DEPLOY / "sessiond.env.example",
    *(ROOT / name for name in ("Dockerfile", "compose.yaml", ".dockerignore")),
]
VARIABLES = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE}
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
STREAMS = (
    "/sessions/{key}/events",
    "/sessions/{key}/chat",
    "/sessions/{key}/chat/stream",
    "/sessions/{key}/chat/{chat_id}/stream",
)
WAITING = (
    "/sessions/{key}/messages",
    "/sessions/{key}/compact",
    "/memory/rebuild",
    "/webhooks/{route}",
)
WITH_PICTURES = ("/sessions/{key}/chat", "/sessions/{key}/steer", "/sessions/{key}/enqueue")


def by_name(path: Path) -> str:
    return path.name


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_every_variable_exists(path: Path) -> None:
    named = re.findall(rf"\b{ENV_PREFIX}[A-Z_]*[A-Z]", path.read_text())
    assert set(named) <= VARIABLES


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_every_command_exists_with_its_flags(path: Path) -> None:
    text = path.read_text()
    code = re.findall(r"`([^`\n]+)`", text)
    code += [
        line for block in re.findall(r"```\w*\n(.*?)```", text, re.S) for line in block.split("\n")
    ]
    code += re.findall(r"^ExecStart=(.*)$", text, re.M)
    for line in code:
        for name, arguments in re.findall(r"(?:^|/bin/|\| )sessiond ([a-z][a-z-]*)([^|#]*)", line):
            command = main.commands.get(name)
            assert command is not None, line
            known = {option for each in options_of(command) for option in each.opts}
            assert set(re.findall(r"--[a-z][a-z-]*", arguments)) <= known, line


def options_of(command: click.Command) -> list[click.Parameter]:
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(each for sub in inner for each in sub.params)]


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_route_exists(path: Path) -> None:
    routes = {template for template, _resource in ROUTES}
    named = re.findall(r"\b(?:GET|POST|PATCH|DELETE) (/[^\s`]*)", path.read_text())
    assert {re.sub(r"[?#].*", "", each) for each in named} <= routes


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_metric_exists(path: Path) -> None:
    known = set(re.findall(r"^\| `(sessiond_\w+)` \|", text_of("docs/metrics.md"), re.M))
    assert known
    assert set(re.findall(r"(?<![\w$/])sessiond_[a-z_]+", path.read_text())) <= known


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", path.read_text()):
        there = path.parent / target if target else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), (target, anchor)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w.-]+)\)", text_of("docs/deploy/README.md")))
    others = {path.name for path in PAGES} - {"README.md"}
    assert others <= linked


# --- compose.yaml and the image ---


@cache
def compose() -> Any:
    yaml = pytest.importorskip("yaml", reason="no PyYAML to parse compose.yaml with")
    return yaml.safe_load(text_of("compose.yaml"))


def test_compose_starts_what_it_says_in_order() -> None:
    services = compose()["services"]
    assert set(services) == {"postgres", "migrate", "gateway-1", "gateway-2", "nginx"}
    assert services["migrate"]["command"][0] in main.commands
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("gateway-1", "gateway-2"):
        wanted = {"migrate": {"condition": "service_completed_successfully"}}
        assert services[name]["depends_on"] == wanted
        assert f"server {name}:8787 " in compose()["configs"]["upstream"]["content"]
    for name in ("postgres", "nginx"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_compose_mounts_what_there_is() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file()
            else:
                assert source in compose()["volumes"]
        assert set(service.get("networks", ())) <= set(compose()["networks"])


def test_whoever_stops_the_gateway_waits_for_its_drain() -> None:
    (extra,) = re.findall(r"^STOP_EXTRA_S = (\d+)$", text_of("web/gunicorn_conf.py"), re.M)
    for name in ("gateway-1", "gateway-2"):
        service = compose()["services"][name]
        grace_s = float(service["environment"]["SESSIOND_GRACE_S"])
        assert seconds(service["stop_grace_period"]) > grace_s + int(extra)
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text_of("docs/deploy/sessiond.service"), re.M)
    assert int(stop) > DEFAULTS["grace_s"] + int(extra)


def test_the_image_is_built_from_what_there_is_and_starts_without_a_shell_or_root() -> None:
    text = text_of("Dockerfile")
    kept = set(re.findall(r"^!(\S+)$", text_of(".dockerignore"), re.M))
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert source in kept, source
    assert "--require-hashes" in text
    assert re.search(r'^ENTRYPOINT \["sessiond"\]\nCMD \["serve"\]$', text, re.M)
    assert re.search(r"^USER \d+:\d+$", text, re.M)
    assert "/health" in next(line for line in text.splitlines() if "urlopen" in line)
    assert f"EXPOSE {DEFAULTS['port']}" in text


# --- nginx ---


def seconds(text: str) -> float:
    (number, unit) = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def size(text: str) -> int:
    (number, unit) = re.fullmatch(r"(\d+)([km]?)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"": 1, "k": 1024, "m": 1024**2}[unit]


def directives(template: str) -> dict[str, str]:
    """Return what nginx would go by for a path of the route, the server's directives included."""
    text = re.sub(r"#.*", "", text_of("docs/deploy/nginx.conf"))
    locations = re.findall(r"location (~|=)? ?(\S+) \{(.*?)\n    \}", text, re.S)
    path = re.sub(r"\{\w+\}", "k", template)
    bodies = [body for kind, pattern, body in locations if kind == "~" and re.search(pattern, path)]
    server = re.sub(r"location .*?\n    \}", "", text, flags=re.S)
    lines = re.findall(r"^\s+(\w+) ([^;{]+);", server + (bodies[0] if bodies else ""), re.M)
    return dict(lines)


@pytest.mark.parametrize("template", STREAMS)
def test_nginx_hands_frames_on_and_outlasts_the_heartbeat(template: str) -> None:
    assert template in {each for each, _resource in ROUTES}
    found = directives(template)
    assert found["proxy_buffering"] == "off"
    assert seconds(found["proxy_read_timeout"]) > 2 * DEFAULTS["heartbeat_s"]


@pytest.mark.parametrize("template", WAITING)
def test_nginx_waits_as_long_as_a_run_may_take(template: str) -> None:
    found = directives(template)
    assert seconds(found["proxy_read_timeout"]) > DEFAULTS["run_timeout_s"]
    assert found.get("proxy_buffering", "on") == "on"


@pytest.mark.parametrize("template", [template for template, _resource in ROUTES])
def test_nginx_lets_the_gateway_refuse_large_bodies(template: str) -> None:
    found = directives(template)
    limit = "image_body_bytes_max" if template in WITH_PICTURES else "body_bytes_max"
    assert size(found["client_max_body_size"]) > DEFAULTS[limit]
    assert found["proxy_request_buffering"] == "on"
    assert found["proxy_http_version"] == "1.1"


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx to read the configuration")
    server = text_of("docs/deploy/nginx.conf").replace("listen 80;", f"listen unix:{tmp_path}/s;")
    (tmp_path / "a.conf").write_text(server)
    (tmp_path / "b.conf").write_text(text_of("docs/deploy/nginx-upstream.conf"))
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}"
        f" http {{ access_log off; {folders}"
        f" include {tmp_path}/[ab].conf; }}"
    )
    done = subprocess.run(
        [nginx, "-t", "-q", "-e", "stderr", "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr

"""Where a request came from, whatever proxies and clients say."""

import pytest

from web.addresses import networks_of, source_address
from web.asked import AGENT_CHARACTERS_MAX, agent_of
from web.settings import SettingsError, load_settings

PROXIES = networks_of("10.0.0.0/8, 192.0.2.1, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("198.51.100.1", "", "198.51.100.1"),
        ("198.51.100.1", "203.0.113.5", "198.51.100.1"),  # nobody trusts this peer
        ("10.1.2.3", "203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", "6.6.6.6, 203.0.113.5", "203.0.113.5"),  # what the client made up
        ("10.1.2.3", "203.0.113.5, 192.0.2.1, 10.9.9.9", "203.0.113.5"),
        ("10.1.2.3", "10.2.2.2,10.3.3.3", "10.2.2.2"),  # from within
        ("10.1.2.3", "203.0.113.5:4711", "203.0.113.5"),
        ("fd00::1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("fd00::1", "2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:10.1.2.3", "::ffff:203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", "203.0.113.5, unknown", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.5, , ", "10.1.2.3"),
        ("10.1.2.3", '"><script>', "10.1.2.3"),
        ("127.0.0.1", "203.0.113.5", "127.0.0.1"),
        ("", "203.0.113.5", ""),  # a socket file
    ],
)
def test_the_source_is_the_nearest_address_that_is_no_trusted_proxy(
    peer: str, forwarded: str, source: str
) -> None:
    assert source_address(peer, forwarded, PROXIES) == source


def test_no_proxy_is_trusted_unless_it_is_said() -> None:
    trusted = networks_of(load_settings().trusted_proxies)
    assert source_address("127.0.0.1", "203.0.113.5", trusted) == "127.0.0.1"


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8;::1"])
def test_proxies_that_can_not_be_read_are_refused_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load_settings(trusted_proxies=text)


@pytest.mark.parametrize(
    ("header", "agent"),
    [
        ("curl/8.5.0", "curl/8.5.0"),
        ("näher".encode().decode("latin-1"), "näher"),
        ("\xff\xfe", "\ufffd\ufffd"),
        ("a\x1b[31mb\x00\x7f", "a\ufffd[31mb\ufffd\ufffd"),
        ("safe\u202e".encode().decode("latin-1"), "safe\ufffd"),
        ("x" * 500, "x" * AGENT_CHARACTERS_MAX),
    ],
)
def test_what_a_client_calls_itself_can_be_stored_and_shown(header: str, agent: str) -> None:
    assert agent_of(header) == agent

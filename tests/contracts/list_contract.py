"""What every provider's list of models keeps to; a provider binds it by its wire and its fetch."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from actors.models.base import ModelError
from actors.models.info import Facts
from actors.models.listing import MODELS_MAX
from tests.wire.lists import Offer
from tests.wire.servers import ModelServer, Raw, Refuse, Stall, Wire

KEY = "sk-the-secret-key-0123456789"
WHOLE = Offer("m-1", "Model One", 12_345, 678, reasoning=True, vision=False)
HANG_S = 0.2


class ListContract:
    """Bind ``provider``, ``wire`` and ``fetch``."""

    provider: str
    wire: Wire
    fetch: Callable[..., Mapping[str, Facts]]

    @pytest.fixture
    def server(self) -> Iterator[ModelServer]:
        with ModelServer(self.wire) as server:
            yield server

    def listed(self, server: ModelServer, *offers: Offer) -> dict[str, Facts]:
        server.listing = offers
        return dict(type(self).fetch(KEY, server.url))

    def error(self, server: ModelServer, **options: float) -> str:
        with pytest.raises(ModelError) as raised:
            type(self).fetch(KEY, server.url, **options)
        assert self.provider in str(raised.value)
        assert KEY not in str(raised.value)
        return str(raised.value)

    def test_what_the_server_says_is_told_in_its_order(self, server: ModelServer) -> None:
        other = Offer("m-0", reasoning=False, vision=True)
        listed = self.listed(server, WHOLE, other)
        assert list(listed.items()) == [
            ("m-1", Facts("Model One", 12_345, 678, reasoning=True, vision=False)),
            ("m-0", Facts(reasoning=False, vision=True)),
        ]

    def test_what_it_does_not_say_is_not_known(self, server: ModelServer) -> None:
        assert self.listed(server, Offer("m-1")) == {"m-1": Facts()}

    def test_it_is_asked_once_and_with_the_key(self, server: ModelServer) -> None:
        self.listed(server, WHOLE)
        (request,) = server.listings
        assert request.path.partition("?")[0].endswith("/models")
        assert KEY in str(request.headers)

    def test_what_is_no_model_is_left_out(self, server: ModelServer) -> None:
        odd = (Offer(7), Offer(None), Offer(" "), Offer(["m"]))
        assert list(self.listed(server, *odd, WHOLE)) == ["m-1"]

    def test_what_has_another_type_is_not_known(self, server: ModelServer) -> None:
        names = ("name", "display_name", "context_length", "max_input_tokens", "max_tokens")
        nested = ("capabilities", "supported_parameters", "architecture", "top_provider", "pricing")
        for value in (-1, 0.5, [1], {"thinking": 1, "input_modalities": 7}):
            odd = Offer("m-1", fields=dict.fromkeys((*names, *nested), value))
            facts = self.listed(server, odd)["m-1"]
            assert facts in (Facts(), Facts(reasoning=False))

    def test_half_a_surrogate_pair_is_replaced(self, server: ModelServer) -> None:
        assert self.listed(server, Offer("m", "a\ud83d")) == {"m": Facts("a\ufffd")}

    def test_a_list_without_end_is_cut(self, server: ModelServer) -> None:
        offers = [Offer(f"m-{number}") for number in range(MODELS_MAX + 1)]
        assert list(self.listed(server, *offers))[-1] == f"m-{MODELS_MAX - 1}"
        assert len(server.listings) == 1

    def test_a_refusal_is_told_without_the_key_and_not_asked_again(
        self, server: ModelServer
    ) -> None:
        server.listing = Refuse(429, f"Not with {KEY}.", {"Retry-After": "0"})
        assert self.error(server) == f"{self.provider} answered 429: Not with [key]."
        assert len(server.listings) == 1

    @pytest.mark.parametrize("data", [b"{{{", b"\xff", b"null", b"[]", b"7", b"{}", b'{"data":7}'])
    def test_garbage_is_an_error(self, server: ModelServer, data: bytes) -> None:
        server.listing = Raw(data)
        self.error(server)

    def test_a_server_that_hangs_is_given_up(self, server: ModelServer) -> None:
        server.listing = Stall()
        error = self.error(server, timeout_s=HANG_S)
        assert error == f"{self.provider} sent nothing for {HANG_S} s."

    def test_a_server_that_is_not_there_is_an_error(self, server: ModelServer) -> None:
        with ModelServer(self.wire) as gone:
            pass
        self.error(gone)

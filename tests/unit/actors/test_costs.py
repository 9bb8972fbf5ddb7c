"""What a model call costs."""

import pytest

from actors.models.info import Price, cost_of
from actors.session.messages import Usage

USAGE = Usage(input=1_000_000, output=500_000, cache_read=2_000_000, cache_write=100_000)


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        (None, 0.0),
        (Price(2.0, 10.0), 2.0 + 5.0 + 4.0 + 0.2),
        (Price(2.0, 10.0, 0.1, 2.5), 2.0 + 5.0 + 0.2 + 0.25),
        (Price(0.0, 0.0), 0.0),
    ],
)
def test_a_cost_is_what_each_kind_of_token_is_priced_at(price: Price | None, cost: float) -> None:
    assert cost_of(USAGE, price) == pytest.approx(cost)


def test_usages_add_up_with_their_costs() -> None:
    assert Usage(1, 2, 3, 4, 0.5) + Usage(1, 1, 1, 1, 0.25) == Usage(2, 3, 4, 5, 0.75)

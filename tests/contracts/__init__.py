import pytest

pytest.register_assert_rewrite(
    "tests.contracts.event_log_contract",
    "tests.contracts.model_contract",
    "tests.contracts.projection_contract",
)

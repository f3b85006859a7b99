"""modelkiln.environments.uv: the variables that uv is given."""

from hypothesis import given
from hypothesis import strategies as st

from modelkiln.environments.uv import installer_variables


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_only_named_variables_pass(given_variables: dict[str, str]) -> None:
    passed = installer_variables(given_variables | {"UV_X": "1", "https_proxy": "2", "HOMER": "3"})
    assert passed["UV_X"] == "1"
    assert passed["https_proxy"] == "2"
    assert "HOMER" not in passed

"""What the tests' own set-up sees to."""

import execnet
import pytest


def test_what_a_test_shows_need_not_be_utf8(request: pytest.FixtureRequest) -> None:
    """A log with half a surrogate pair, as property tests write it, reaches the process that reports."""
    report = pytest.TestReport(
        nodeid="a",
        location=("a.py", 1, "a"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when="call",
        sections=[("Captured log call", "key '\ud800'")],
    )
    told = request.config.hook.pytest_report_to_serializable(config=request.config, report=report)
    assert told["sections"] == [("Captured log call", "key '\\ud800'")]
    assert execnet.loads(execnet.dumps(told))["nodeid"] == "a"

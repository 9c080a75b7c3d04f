"""What the tests' own set-up sees to."""

import subprocess
import sys
from pathlib import Path

import execnet
import pytest
from support.process import inherited_environment

from hopwatch_demo.patience import VARIABLE, BadPatience, scale_wait

ROOT = Path(__file__).parent.parent
CASES = Path(__file__).with_name("patience_cases.py")


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


def run_cases(patience: str) -> subprocess.CompletedProcess[str]:
    """Run what needs two seconds and is given one, with this patience."""
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=1", str(CASES))
    env = inherited_environment() | {VARIABLE: patience}
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=scale_wait(120), check=False
    )


def test_patience_makes_every_wait_longer() -> None:
    """Tests as a whole, by mark or not, and the conditions that they wait for get as many times as long."""
    patient, hasty = run_cases("20"), run_cases("")
    assert "4 passed" in patient.stdout, patient.stdout
    assert "4 failed" in hasty.stdout, hasty.stdout
    assert "did not hold within 1 s" in hasty.stdout


def test_a_run_with_a_patience_that_is_no_factor_does_not_begin() -> None:
    """What is wrong is said in a sentence."""
    done = run_cases("soon")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{VARIABLE} is by how much longer tests wait, a number above 0 such as 1 or 4, not 'soon'" in (
        done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("said", ["soon", "0", "-1", "nan", "inf"])
def test_only_numbers_above_zero_are_factors(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can be waited for."""
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(BadPatience, match="a number above 0"):
        scale_wait(1)


def test_without_a_word_waits_are_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing said and said to be empty are the same."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert scale_wait(3) == 3
    monkeypatch.setenv(VARIABLE, "")
    assert scale_wait(3) == 3
    monkeypatch.setenv(VARIABLE, "2.5")
    assert scale_wait(3) == 7.5

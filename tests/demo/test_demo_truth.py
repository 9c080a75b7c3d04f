"""The services' own records."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hopwatch_demo.truth import Act, Entry, Reader, Record, read


def test_a_reader_reads_on_where_it_was(tmp_path: Path) -> None:
    """What is recorded between two readings is added; nothing is read twice."""
    record, reader = Record(tmp_path / "a-1.jsonl", "a"), Reader(tmp_path)
    record.write(Act.READY)
    assert len(reader.entries()) == len(reader.entries()) == 1
    record.write(Act.SENDING, event="e")
    assert [entry.act for entry in reader.entries()] == [Act.READY, Act.SENDING]


def test_entries_of_all_processes_come_back_in_order(tmp_path: Path) -> None:
    """What several processes wrote is read as one history, oldest first."""
    one, other = Record(tmp_path / "a-1.jsonl", "a"), Record(tmp_path / "b-2.jsonl", "b")
    one.write(Act.SENDING, event="e", kind="bill", broker="nats")
    other.write(Act.RECEIVED, event="e", kind="bill", broker="nats", receiver="C/b")
    one.write(Act.SENT, event="e", kind="bill", broker="nats", how="confirmed", partition=0, offset=0)
    entries = read(tmp_path)
    assert [entry.act for entry in entries] == [Act.SENDING, Act.RECEIVED, Act.SENT]
    assert [entry.service for entry in entries] == ["a", "b", "a"]
    assert (entries[2].partition, entries[2].offset) == (0, 0)


def test_an_entry_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    """A process killed right after a write leaves the entry behind."""
    code = (
        "import os, pathlib, sys; from hopwatch_demo.truth import Act, Record\n"
        "Record(pathlib.Path(sys.argv[1]) / 'x.jsonl', 'x').write(Act.RECEIVED, event='e', receiver='r')\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [(entry.act, entry.event, entry.receiver) for entry in read(tmp_path)] == [
        (Act.RECEIVED, "e", "r")
    ]


def test_a_line_still_being_written_is_not_an_entry_yet(tmp_path: Path) -> None:
    """A last line without its end is left out until it is whole."""
    whole = Entry(1.0, "a", Act.SENDING, event="e").line()
    (tmp_path / "a.jsonl").write_bytes(whole + whole[: len(whole) // 2])
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    "line", [b"[]", b'{"at": 1.0}', b'{"act": "sent", "at": 1, "nonsense": 2}', b"no json"]
)
def test_a_line_that_is_no_entry_is_an_error(tmp_path: Path, line: bytes) -> None:
    """A record that says something else is not passed over in silence."""
    (tmp_path / "a.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r".+"):
        read(tmp_path)


def test_empty_fields_are_not_written() -> None:
    """A line holds only what applies."""
    assert json.loads(Entry(1.0, "a", Act.READY).line()) == {"at": 1.0, "service": "a", "act": "ready"}


def test_a_process_has_a_record_of_its_own(tmp_path: Path) -> None:
    """The file is named after service and process, so that a restarted service starts another."""
    Record.of_process(tmp_path / "records", "billing").write(Act.READY)
    assert [path.name for path in (tmp_path / "records").iterdir()] == [f"billing-{os.getpid()}.jsonl"]

"""A user's mistake is one line and exit code 2; a bug keeps its traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from snnlab import interrupts
from snnlab.errors import LONGEST, UsageError, nearest, one_line, run_command, shown


@pytest.mark.parametrize(
    ("name", "valid", "expected"),
    [
        ("batchsize", ["batch_size", "epochs"], " (did you mean 'batch_size'?)"),
        ("zzz", ["batch_size", "epochs"], ""),
        ("x", [], ""),
        ("bpt", iter(["bptt"]), " (did you mean 'bptt'?)"),
    ],
)
def test_nearest(name, valid, expected) -> None:
    assert nearest(name, valid) == expected


def test_one_line_joins_all_whitespace() -> None:
    assert one_line("  a\n\n b\tc \r\n") == "a b c"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_exit_code_is_what_main_returns(returned, code, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(lambda: returned, "prog")
    assert left.value.code == code
    assert capsys.readouterr() == ("", "")


def test_usage_error_is_one_line_on_stderr_and_code_2(capsys) -> None:
    def main() -> int:
        raise UsageError("bad\nvalue   here")

    with pytest.raises(SystemExit) as left:
        run_command(main, "task-x")
    assert left.value.code == 2
    assert capsys.readouterr() == ("", "task-x: error: bad value here\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (1.5, "1.5"), ("a\n b", "a b"), ("\x1b[31m", "\\x1b[31m"), ("\udcff", "\\udcff"),
     ("x" * 80, "x" * 80), ("x" * 81, "x" * 77 + "..."), ("[/x]", "[/x]"), ("é", "é")],
)  # fmt: skip
def test_a_value_is_shown_cut_and_printable(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_message_is_cut(capsys) -> None:
    def main() -> int:
        raise UsageError("y" * 10_000)

    with pytest.raises(SystemExit):
        run_command(main, "p")
    assert len(capsys.readouterr().err) == len("p: error: \n") + LONGEST


def test_memory_that_runs_out_is_one_line_and_another_error_a_bug(capsys) -> None:
    class XlaRuntimeError(RuntimeError):
        pass

    def fails(error: Exception) -> None:
        raise error

    for error in (MemoryError(), XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory, 9 bytes\nx")):
        with pytest.raises(SystemExit) as left:
            run_command(lambda e=error: fails(e), "p")  # type: ignore[misc]
        assert left.value.code == 2
        shown_line = capsys.readouterr().err
        assert shown_line.startswith("p: error: out of memory")
        assert shown_line.count("\n") == 1
    with pytest.raises(XlaRuntimeError):
        run_command(lambda: fails(XlaRuntimeError("INTERNAL: x")), "p")


def test_what_saved_after_a_signal_is_one_line(capsys) -> None:
    def main() -> int:
        raise interrupts.Interrupted(signal.SIGTERM, "go on with: x")

    with pytest.raises(SystemExit) as left:
        run_command(main, "task-x")
    assert left.value.code == 143
    assert capsys.readouterr().err == "task-x: ended by SIGTERM; go on with: x\n"


def test_a_bug_propagates() -> None:
    def main() -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_command(main, "task-x")


def test_a_real_process_shows_no_traceback() -> None:
    code = (
        "from snnlab.errors import UsageError, run_command\n"
        "def main(): raise UsageError('no such thing')\n"
        "run_command(main, 'p')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "p: error: no such thing\n")


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import sys\n"
        "from snnlab.errors import run_command\n"
        "def main():\n"
        "    for _ in range(100000): print('line')\n"
        "run_command(main, 'p')\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stderr is not None
    first.stdout.readline()
    first.stdout.close()
    assert first.stderr.read() == ""
    first.stderr.close()
    assert first.wait() == 0

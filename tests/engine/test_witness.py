"""The witness of crashes: it records a fatal signal, and changes nothing else."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import CRASHING

if TYPE_CHECKING:
    from pathlib import Path

_fast = pytest.importorskip("ratectl.engine.native._fast")

# Each test runs in its own process: most of them die.
HEAD = """
import ctypes, faulthandler, mmap, os, signal, sys, tempfile
from ratectl.engine.native import _fast

C = ctypes.CDLL(None, use_errno=True)
WATCHED = [signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT]


def opened(name="note"):
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def handler(signum):
    "The address of the current handler, as the system has it."
    now = (ctypes.c_void_p * 32)()
    assert C.sigaction(signum, None, now) == 0
    return now[0]


def bus_error():
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        page = mmap.mmap(file.fileno(), 4096)
        file.truncate(0)
        page[0]


def segmentation_fault():
    ctypes.string_at(0)
"""


class Died:
    """A script's exit status, errors and notes."""

    def __init__(self, folder: Path, script: str) -> None:
        self.process = subprocess.run(
            [sys.executable, "-c", HEAD + script],
            cwd=folder,
            env=CRASHING,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.status = self.process.returncode
        self.errors = self.process.stderr
        self.notes = {path.name: path.read_text() for path in sorted(folder.glob("note*"))}


X86 = platform.machine() in ("x86_64", "AMD64", "i686")

FAULTS = {
    "a fault": (signal.SIGSEGV, "segmentation_fault()"),
    "a bus error": (signal.SIGBUS, "bus_error()"),
    "abort": (signal.SIGABRT, "os.abort()"),
    "an assertion in C": (signal.SIGABRT, "C.abort()"),
    "a signal raised": (signal.SIGILL, "signal.raise_signal(signal.SIGILL)"),
    "an arithmetic error": (
        signal.SIGFPE,
        "C.div(1, 0)" if X86 else "signal.raise_signal(signal.SIGFPE)",
    ),
    "a thread's": (
        signal.SIGSEGV,
        "import threading; t = threading.Thread(target=segmentation_fault); t.start(); t.join()",
    ),
}


@pytest.mark.parametrize(("signum", "crash"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("dumps", ["", "before", "after"])
def test_crash_is_recorded_and_ends_the_process_as_usual(
    tmp_path: Path, signum: signal.Signals, crash: str, dumps: str
):
    before, after = ("faulthandler.enable()" if dumps == at else "" for at in ("before", "after"))
    died = Died(tmp_path, f"{before}\n_fast.witness(opened())\n{after}\n{crash}")
    assert died.status == -signum
    assert died.notes == {"note": f"{signum:02d}\n"}
    assert died.errors.count("Fatal Python error") == bool(dumps), died.errors


def test_stack_overflow_is_recorded_if_the_host_has_a_signal_stack(tmp_path: Path):
    died = Died(
        tmp_path, "faulthandler.enable(); _fast.witness(opened()); faulthandler._stack_overflow()"
    )
    assert died.status == -signal.SIGSEGV
    assert died.notes == {"note": "11\n"}


@pytest.mark.parametrize("signum", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_of_another_process_is_no_crash(tmp_path: Path, signum: signal.Signals):
    died = Died(
        tmp_path,
        f"""
_fast.witness(opened())
if not os.fork():
    os.kill(os.getppid(), {int(signum)})
    os._exit(0)
while True:
    signal.pause()
""",
    )
    assert died.status == -signum
    assert died.notes == {"note": ""}


@pytest.mark.parametrize("fork", ["os.fork()", "C.fork()"], ids=["python's", "raw"])
def test_crash_of_a_child_is_not_recorded(tmp_path: Path, fork: str):
    died = Died(
        tmp_path,
        f"""
_fast.witness(opened())
child = {fork}
if not child:
    segmentation_fault()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    )
    assert died.process.stdout == f"{-signal.SIGSEGV}\n"
    assert died.notes == {"note": ""}


def test_child_can_record_its_own_crash(tmp_path: Path):
    died = Died(
        tmp_path,
        """
_fast.witness(opened())
child = os.fork()
if not child:
    _fast.witness(opened("note-of-child"))
    segmentation_fault()
os.waitpid(child, 0)
""",
    )
    assert died.notes == {"note": "", "note-of-child": "11\n"}


def test_each_agent_of_a_process_has_a_witness(tmp_path: Path):
    died = Died(
        tmp_path,
        """
files = [opened(f"note{number}") for number in range(4)]
for file in files:
    assert _fast.witness(file)
_fast.dismiss(files[1])
_fast.dismiss(files[1])
segmentation_fault()
""",
    )
    assert died.notes == {"note0": "11\n", "note1": "", "note2": "11\n", "note3": "11\n"}


def test_64_witnesses_are_available_repeatedly(tmp_path: Path):
    died = Died(
        tmp_path,
        """
file = opened()
for _ in range(3):
    assert [_fast.witness(file) for _ in range(66)] == [True] * 64 + [False] * 2
    _fast.dismiss(file)
""",
    )
    assert (died.status, died.errors) == (0, "")


def test_last_dismissal_restores_the_previous_signal_actions(tmp_path: Path):
    died = Died(
        tmp_path,
        """
faulthandler.enable()
before = [handler(each) for each in WATCHED]
files = [opened(), opened()]
for file in files:
    _fast.witness(file)
watched = [handler(each) for each in WATCHED]
assert all(one != other for one, other in zip(before, watched))
_fast.dismiss(files[0])
assert [handler(each) for each in WATCHED] == watched
_fast.dismiss(files[1])
assert [handler(each) for each in WATCHED] == before
_fast.witness(files[0])
assert [handler(each) for each in WATCHED] == watched
""",
    )
    assert (died.status, died.errors) == (0, "")


HANDLED = """
seen = []
def handle(signum, frame):
    seen.append(signum)
"""


def test_handler_installed_later_by_the_host_stays(tmp_path: Path):
    died = Died(
        tmp_path,
        HANDLED
        + """
file = opened()
_fast.witness(file)
signal.signal(signal.SIGABRT, handle)
hosts = handler(signal.SIGABRT)
_fast.dismiss(file)
assert handler(signal.SIGABRT) == hosts
_fast.witness(file)
assert handler(signal.SIGABRT) == hosts, "not replaced"
signal.raise_signal(signal.SIGABRT)
assert seen == [signal.SIGABRT]
""",
    )
    assert (died.status, died.errors) == (0, "")
    assert died.notes == {"note": ""}


def test_earlier_handler_of_the_host_is_called_and_restored(tmp_path: Path):
    died = Died(
        tmp_path,
        HANDLED
        + """
signal.signal(signal.SIGABRT, handle)
hosts = handler(signal.SIGABRT)
_fast.witness(opened())
for times in (1, 2):
    signal.raise_signal(signal.SIGABRT)
    assert seen == [signal.SIGABRT] * times
assert handler(signal.SIGABRT) == hosts
""",
    )
    assert (died.status, died.errors) == (0, "")
    assert died.notes == {"note": "06\n"}, (
        "the process survives, and the signal is no longer watched"
    )


def test_handlers_that_call_each_other_end(tmp_path: Path):
    """If our handler is below the host's, it must not be installed above it as well."""
    died = Died(
        tmp_path,
        """
file = opened()
_fast.witness(file)
faulthandler.enable()
_fast.dismiss(file)
_fast.witness(file)
segmentation_fault()
""",
    )
    assert died.status == -signal.SIGSEGV
    assert died.notes == {"note": "11\n"}
    assert died.errors.count("Fatal Python error") == 1


def test_signals_that_the_host_ignores_stay_ignored(tmp_path: Path):
    died = Died(
        tmp_path,
        """
signal.signal(signal.SIGABRT, signal.SIG_IGN)
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
_fast.witness(opened())
signal.raise_signal(signal.SIGABRT)
print("lives", flush=True)
segmentation_fault()  # this cannot be ignored
""",
    )
    assert (died.process.stdout, died.status) == ("lives\n", -signal.SIGSEGV)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="layouts of Linux on x86-64"
)
def test_host_that_handles_its_faults_gets_them_unchanged(tmp_path: Path):
    """Virtual machines and collectors do so: they need the faulting address, and go on."""
    died = Died(
        tmp_path,
        """
PAGE = 4096
C.mmap.restype = ctypes.c_void_p
C.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
C.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = C.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
seen = []

@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def mend(signum, info, context):
    seen.append(ctypes.c_void_p.from_address(info + 16).value)
    C.mprotect(page, PAGE, mmap.PROT_READ | mmap.PROT_WRITE)

class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_char * 128),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]

SA_SIGINFO = 4
ours = Action(ctypes.cast(mend, ctypes.c_void_p).value, b"", SA_SIGINFO, None)
assert C.sigaction(signal.SIGSEGV, ctypes.byref(ours), None) == 0
_fast.witness(opened())
ctypes.memset(page + 8, 7, 1)
assert ctypes.string_at(page + 8, 1) == bytes([7])
assert seen == [page + 8], seen
C.mprotect(page, PAGE, mmap.PROT_READ)
ctypes.memset(page, 7, 1)
assert seen == [page + 8, page], "from now on without the witness"
""",
    )
    assert (died.status, died.errors) == (0, "")
    assert died.notes == {"note": "11\n00\n"}, "the process survived that signal"

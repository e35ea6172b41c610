"""Reservations and forks: parent and child each have their own copy of what is open."""

from __future__ import annotations

from test_agent_forks import run

SETTING = """
import _thread
POLICY = {"apiVersion": "ratectl/v1", "scope": "/",
          "limits": {"tokens": {"algorithm": "quota", "rate": "1000/day", "unit": "tokens"}}}
def left(agent):
    return agent.check("/", {}, {"tokens": 1001}).remaining
def in_child(work):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(30)
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return json.loads(os.read(read, 1000))
"""

OWN_COPIES = """
agent = ratectl.Agent.from_policies(POLICY, clock=ratectl.FakeClock())
other = agent.reserve("/", {}, {"tokens": 100}, expires=10, on_expiry="refund").open()
seen = []
with agent.reserve("/", {}, {"tokens": 400}) as reservation:
    def work():
        reservation.used(tokens=50)
        reservation.close()
        agent.clock.advance(10)
        return [left(agent), other.expired]
    seen += [in_child(work), left(agent), other.expired]
    reservation.used(tokens=300)
print(json.dumps([*seen, left(agent)]))
"""


def test_parent_and_child_settle_their_own_copies() -> None:
    assert run(SETTING + OWN_COPIES) == [[950, True], 500, False, 600]


EXPIRING = """
agent = ratectl.Agent.from_policies(POLICY)
agent.reserve("/", {}, {"tokens": 600}, expires=float(sys.argv[1]), on_expiry="refund").open()
def work():
    waited = agent.acquire_sync("/", {}, {"tokens": 1000}, wait=None)  # the refund wakes it
    return bool(waited)
print(json.dumps([in_child(work), work()]))
"""


def test_thread_of_a_child_expires_what_was_open_at_the_fork() -> None:
    assert run(SETTING + EXPIRING, "0.3") == [True, True]


CLOSED = """
agent = ratectl.Agent.from_policies(POLICY)
agent.reserve("/", {}, {"tokens": 600}, expires=0.3, on_expiry="refund").open()
agent.close()
print(json.dumps(in_child(lambda: bool(agent.acquire_sync("/", {}, {"tokens": 1000}, wait=None)))))
"""


def test_child_of_a_closed_agent_expires_as_well() -> None:
    assert run(SETTING + CLOSED) is True


NO_THREADS = """
agent = ratectl.Agent.from_policies(POLICY)
reservation = agent.reserve("/", {}, {"tokens": 600}, expires=0.01, on_expiry="refund").open()
parent, start = os.getpid(), _thread.start_new_thread
def refuse(*given):
    if os.getpid() != parent:
        raise RuntimeError("can't start new thread")
    return start(*given)
_thread.start_new_thread = refuse
def work():
    while not reservation.expired:
        pass
    reservation.close()
    return left(agent)
print(json.dumps(in_child(work)))
"""


def test_child_without_threads_gives_back_at_the_end() -> None:
    assert run(SETTING + NO_THREADS) == 1000


EXIT = """
agent = ratectl.Agent.from_policies(POLICY)
for seconds in (0.05, 600):
    agent.reserve("/", {}, {"tokens": 1}, expires=seconds, on_expiry="refund").open()
print("1")
"""


def test_open_reservations_do_not_delay_the_end_of_the_process() -> None:
    assert run(SETTING + EXIT) == 1

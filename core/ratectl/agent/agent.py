"""The agent: limits enforced inside a process, kept up to date from a store or a directory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Self

from ratectl.agent.arguments import (
    counters_of,
    environment_of,
    id_of,
    keys_of,
    source_of,
    state_dir_of,
)
from ratectl.agent.call_limiter import CallLimiter
from ratectl.agent.client_address import proxies_of
from ratectl.agent.deciding import Deciding, central_limits
from ratectl.agent.expiries import Expiries
from ratectl.agent.explaining import Explaining
from ratectl.agent.failures import Failures
from ratectl.agent.following import follow
from ratectl.agent.given import GivenPolicies
from ratectl.agent.lifecycle import Lifecycle
from ratectl.agent.limited import limited
from ratectl.agent.line import Line
from ratectl.agent.log import log
from ratectl.agent.processes import register
from ratectl.agent.reservation import Reservation
from ratectl.agent.settings import Settings
from ratectl.agent.terms import Terms
from ratectl.agent.usage.meter import UsageMeter
from ratectl.agent.waiting import pass_in_task, pass_in_thread
from ratectl.agent.wall_clock import WallClock
from ratectl.engine import open_engine
from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES
from ratectl.engine.stable_keys import StableKeys
from ratectl.errors import UsageError
from ratectl.fleet.shown_keys import keys_shown
from ratectl.runtime.cooperative import cooperative
from ratectl.signing.signatures import Trust

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ratectl.agent.call_limiter import Attributes
    from ratectl.agent.client_address import Header
    from ratectl.agent.fake_clock import FakeClock
    from ratectl.agent.given import Given
    from ratectl.agent.limited import F
    from ratectl.agent.serving.endpoints import Endpoints
    from ratectl.agent.serving.tls import Tls
    from ratectl.agent.usage.summary import AgentUsage
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.fleet.shown_keys import Keys

__all__ = ["Agent"]


_NOTHING: Final[Mapping[str, str]] = {}


class Agent(Deciding, Explaining, Lifecycle):
    """Decides requests by the live policies of a store. Safe across threads, asyncio and fork.

    >>> agent = Agent("sqlite:///rates.db")                                # doctest: +SKIP
    >>> if not agent.check("/payments/checkout", {"tenant": "acme"}): ...  # doctest: +SKIP

    Decisions never wait on I/O: the agent's own threads follow the store. When the store does not
    answer, or a generation is rejected, the policies in force stay. Limits count in this process,
    but for those with ``across: cluster``.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | GivenPolicies,
        *,
        id: str | None = None,  # noqa: A002  the word that users and records use
        on_error: Literal["allow", "deny"] = "allow",
        state_dir: str | os.PathLike[str] | None = None,
        ready_timeout: float = 2.0,
        report_interval: float = 5.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        public_keys: Sequence[str | os.PathLike[str]] | None = None,
        environment: str | None = None,
        stable_keys: bytes | None = None,
        keep_counters: bool = False,
        keys: Keys = "plain",
        redis: str | None = None,
        redis_deadline: float = 0.05,
    ) -> None:
        """Start following ``source``: a store's URL, or a directory of YAML for development.

        ``id``: the agent's name in ``ratectl agents``. Default: a random one, kept on disk.
        ``on_error``: the answer while nothing is loaded, or when the limiter itself fails (a
        policy's own ``on_error`` comes first).
        ``state_dir``: the folder for last-good and the id (default ``$XDG_STATE_HOME/ratectl``).
        ``ready_timeout``: seconds to wait for the first policies when none are on disk.
        ``report_interval``: seconds between usage reports.
        ``max_bytes``: memory limit of the buckets.
        ``public_keys``: files with trusted public keys (PEM). The agent then refuses every head
        that none of them has signed (see ``signing``). Default: it obeys every head in the store.
        ``environment``: with ``public_keys``, the identity that the store must have. Default: the
        identity of the first head that the agent accepts.
        ``stable_keys``: a secret of at least 16 bytes, shared by agents. Keys are then hashed under
        it, so that the same key has the same number in all of them.
        ``keep_counters``: save the buckets in ``state_dir``, every ten seconds and at the end, and
        go on with them in the next process of this agent. Give each process an ``id`` of its own.
        ``keys``: how usage shows keys: ``plain`` (addresses are cut to their network), ``full``,
        ``hashed`` (under ``stable_keys``, if given) or ``off``.
        ``redis``: URL of the Valkey or Redis server that counts limits with ``across: redis``.
        Default: ``$RATECTL_REDIS_URL``. ``redis_deadline``: seconds for one of its decisions.

        :raises UsageError: an argument cannot be used.
        :raises PolicyError: ``source`` is a directory that does not validate.
        """
        if on_error not in ("allow", "deny"):
            raise UsageError(f"on_error is 'allow' or 'deny', not {on_error!r}")
        if not report_interval >= 0.05:  # refuses NaN, too
            raise UsageError("report_interval is at least 0.05 seconds")
        super().__init__()
        given = source if isinstance(source, GivenPolicies) else None
        self._fake_clock = given.clock if given else None
        wall = WallClock(self._fake_clock)
        folder = state_dir_of(state_dir)
        counters = counters_of(keep_counters, source, folder, stable_keys)
        secret = stable_keys if counters is None else counters.value
        stable = None if secret is None else StableKeys(secret)
        open_new = partial(open_engine, wall.monotonic_ns, max_bytes=max_bytes, stable_keys=stable)
        self._engine = open_new()
        self._engine.show_key = keys_shown(keys, stable_keys)
        self._failures = Failures(self._engine, allow=on_error == "allow")
        self._engine.guard(self._failures.failed, self._failures.unready)
        self._line = Line(self._engine, wall.monotonic_ns)
        self._expiries = Expiries(wall.monotonic_ns, by_thread=self._fake_clock is None)
        self._meter = UsageMeter(self._engine, self._failures, self._line, wall.monotonic_ns)
        self._central = central_limits(
            redis, redis_deadline, self._engine, open_new, wall, fake=self._fake_clock is not None
        )
        self._check_directly = self._engine.check
        self._central.changed = self._bind
        self._bind()
        settings = Settings(
            source=source_of(source) if given is None else "",
            given=given,
            wanted_id=id_of(id),
            state_dir=folder,
            counters=counters,
            report_interval=report_interval,
            trust=Trust.load(keys_of(public_keys), environment_of(environment)),
            open_engine=open_new,
            wall=wall,
            failures=self._failures,
            meter=self._meter,
            central=self._central,
        )
        self._companions.join(self._central)
        self._following = follow(settings, self._engine)
        try:
            self._following.start()
            register(self)
            if self._fake_clock is not None:
                self._fake_clock.follow(self._time_passed)
            if not self.generation and not self.wait_ready(ready_timeout):
                self._log_waiting()
        except BaseException:  # the caller has no agent that it could close
            self.close()
            raise

    def _bind(self) -> None:
        """Let ``check`` be the engine's own function, unless it has to look for central limits:
        no Python call in front of a compiled one."""
        bound = vars(self).get("check")
        if self._central.is_configured or self._central.any:
            if bound is self._check_directly:  # not one that the program has put there
                del self.check
        elif bound is None and type(self).check is Agent.check:
            self.check = self._check_directly  # type: ignore[method-assign,assignment]

    def _log_waiting(self) -> None:
        """Log that nothing is in force, unless a logged problem says why already."""
        if not self.status.problems:
            log.warning("%s", self.status.error)

    def _time_passed(self) -> None:
        """Follow a fake clock that was moved."""
        self._following.wall.refresh()
        self._following.enforcement.keep_time()
        self._expiries.passed()
        self._line.passed()

    @classmethod
    def from_policies(
        cls,
        policies: Given,
        *,
        clock: FakeClock | None = None,
        on_error: Literal["allow", "deny"] = "allow",
        max_bytes: int = DEFAULT_MAX_BYTES,
        stable_keys: bytes | None = None,
        keys: Keys = "plain",
        redis: str | None = None,
        redis_deadline: float = 0.05,
    ) -> Self:
        """Return an agent that enforces these policies for ever, without a store and without files.

        For tests, and for programs that bring their policies along. ``policies``: a text in YAML, a
        path, a document as a mapping, a list of documents, or a tree. ``clock``: a clock that the
        test moves; default: the system's. The other arguments are those of ``Agent``.

        >>> agent = Agent.from_policies("...", clock=FakeClock())  # doctest: +SKIP
        >>> agent.clock.advance(1)                                 # doctest: +SKIP

        :raises UsageError: an argument cannot be used.
        :raises PolicyError: the policies are not valid.
        """
        return cls(
            GivenPolicies.of(policies, clock),
            on_error=on_error,
            max_bytes=max_bytes,
            stable_keys=stable_keys,
            keys=keys,
            redis=redis,
            redis_deadline=redis_deadline,
        )

    # Deciding -----------------------------------------------------------------------------------

    def check(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1
    ) -> Decision:
        """Decide a request: charge every limit of ``scope`` or, when refused, none.

        A concurrency limit holds a slot until the request is over: call ``release()`` on the
        decision, or use it as a context manager.

        ``cost``: the number of requests, or a mapping of units, like ``{"tokens": 4000}``, which
        counts one request as well, unless it names ``requests``. A limit whose unit it does not
        name is not consulted. A unit named with 0 peeks at its limits; the integer 0 at all.

        Never blocks, and never raises for a failure of the limiter: ``on_error`` answers then.

        :raises UsageError: ``cost`` is neither a whole number, 0 or more, nor a mapping of units
            to these; or a limit with ``across: redis`` decides the request (see ``acheck``).
        """
        if self._central.any:
            self._refuse_central("check", scope, attributes, cost)
        return self._engine.check(scope, attributes, cost)

    async def acquire(
        self,
        scope: str,
        attributes: Mapping[str, str] = _NOTHING,
        cost: Cost = 1,
        *,
        wait: float | None = None,
    ) -> Decision:
        """Wait until the request may pass, at most ``wait`` seconds. First come, first served.

        Returns the refusal at once if the request can never pass, or if its wait is known to be
        longer. ``check`` does not wait its turn: it may take what a waiting request waits for.
        Cancelling the task takes nothing. A request that meets a limit with ``across: redis`` asks
        again and again, and not in the order of arrival.

        :raises UsageError: ``check`` does not take ``cost``, or ``wait`` is no number of seconds.
        """
        if self._meets_central(scope, attributes, cost):
            return await self._acquire_central(scope, attributes, cost, wait)
        return await pass_in_task(self._line, scope, attributes, cost, wait)

    def acquire_sync(
        self,
        scope: str,
        attributes: Mapping[str, str] = _NOTHING,
        cost: Cost = 1,
        *,
        wait: float | None = None,
    ) -> Decision:
        """Wait like ``acquire``, in this thread; both wait in the same line.

        :raises UsageError: ``check`` does not take ``cost``, or ``wait`` is no number of seconds.
        """
        if self._meets_central(scope, attributes, cost):
            return self._acquire_central_sync(scope, attributes, cost, wait)
        return pass_in_thread(self._line, scope, attributes, cost, wait)

    def reserve(
        self,
        scope: str,
        attributes: Mapping[str, str] = _NOTHING,
        cost: Cost = 1,
        *,
        wait: float | None = 0,
        expires: float = 60,
        on_expiry: Literal["keep", "refund"] = "keep",
    ) -> Reservation:
        """Return a reservation: it charges an estimate, and what was really used at its end.

        For costs that become known while the request runs, like the tokens of a stream. The
        request is decided, and charged, where the block begins (``with`` or ``async with``).

        ``cost``: the estimate. An upper bound keeps the limits exact; what is used beyond it is
        charged when it is reported, even below empty.
        ``wait``: seconds to wait in line instead of being refused; None: without limit. ``with``
        waits in this thread, ``async with`` in this task.
        ``expires``: seconds until it expires; each ``used`` begins them again.
        ``on_expiry``: "keep" leaves the charge, the larger of estimate and used; "refund" gives
        back what was not used. What is reported later still corrects it.

        >>> with agent.reserve("/llm", acme, {"tokens": 4000}) as reservation:  # doctest: +SKIP
        ...     if reservation: reservation.used(tokens=1500)

        :raises UsageError: an argument cannot be used.
        """
        terms = Terms.of(wait, expires, on_expiry)
        return Reservation(self, self._expiries, self._failures, terms, scope, attributes, cost)

    def limited(
        self,
        scope: str | Callable[..., str],
        attributes: Attributes = None,
        cost: Cost | Callable[..., Cost] = 1,
        exempt: Callable[..., bool] | None = None,
        wait: float | None = 0,
    ) -> Callable[[F], F]:
        """Return a decorator of functions, also async ones: each call asks, or raises ``Limited``.

        ``scope``, ``attributes``, ``cost`` and ``exempt`` may be functions of the call's arguments.
        ``attributes``: a fixed text or a function for each, or one function that returns all.
        ``wait``: seconds to wait in line instead of being refused; None: without limit. Slots are
        released when the call, or the generator that it returned, has ended.

        >>> @agent.limited("/mail", {"tenant": lambda to: to.tenant}, wait=5)  # doctest: +SKIP
        ... def send(to): ...

        :raises UsageError: an argument cannot be used, or it decorates no function.
        """
        return partial(limited, CallLimiter(self, scope, attributes, cost, exempt, wait))

    def client_ip(
        self,
        scope: str,
        peer: str | None,
        forwarded_for: str | Iterable[str] = (),
        *,
        header: Header = "X-Forwarded-For",
    ) -> str | None:
        """Return the address of a request's client, by the ``trusted_proxies`` in force at a scope.

        ``peer``: the address that the connection came from. ``forwarded_for``: the value of the
        header that the proxies add to, or its values in their order. ``header``: which header that
        is. Without a policy, and where no proxies are declared, the peer's own address is returned.
        None: the peer has no address (a Unix socket).

        :raises UsageError: ``header`` is another one, or a value is not text.
        """
        proxies = proxies_of(self._following.enforcement.proxies, scope)
        return proxies.client_ip(peer, forwarded_for, header=header)

    def failed(self, scope: str, error: Exception) -> Decision:
        """Return the answer of ``on_error`` for a request that an adapter could not decide.

        It is counted and logged like a failure of the limiter.
        """
        return self._failures.failed(scope, error)

    # Status -------------------------------------------------------------------------------------

    @property
    def clock(self) -> FakeClock:
        """The clock that a test moves.

        :raises UsageError: the agent follows the system's clock.
        """
        if self._fake_clock is None:
            raise UsageError(
                "this agent follows the system's clock: make it with "
                "Agent.from_policies(…, clock=ratectl.FakeClock())"
            )
        return self._fake_clock

    def usage(self) -> AgentUsage:
        """Return what this agent has decided since it started, and how full its limits are.

        Takes some milliseconds with thousands of limits or keys. Not for signal handlers.
        """
        with cooperative():
            return self._meter.read(self.id)

    def serve(
        self,
        *,
        metrics: str | None = None,
        admin: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> Endpoints:
        """Answer HTTP on these addresses until the agent is closed; see docs/metrics.md.

        ``metrics``: ``/metrics``, ``/healthz`` and ``/readyz``, for probes. ``admin``: a page
        (``/``) and ``/v1/usage``, for operators: on a Unix socket (``unix:/path``) or loopback;
        elsewhere only with a bearer ``token`` or with certificates of clients (``tls``).

        :raises UsageError: an address cannot be used, or others could read the admin endpoint.
        """
        from ratectl.agent.serving.endpoints import serve  # few programs need its imports

        return serve(self, metrics, admin, token, tls)

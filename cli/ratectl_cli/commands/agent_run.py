"""``ratectl agent run``."""

from contextlib import ExitStack
from typing import Annotated, Literal

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.logs import level_of, logging_to_stderr
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.signals import waiting_for_signals


def run(
    ctx: typer.Context,
    agent_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Name of the agent in `ratectl agents`.  [default: generated once, and kept]",
        ),
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            help="Directory for its id, the last good generation and its counters.  "
            "[default: $XDG_STATE_HOME/ratectl]",
        ),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--no-keep-counters",
            help="Start with full buckets, and save none: by default, a restarted agent goes on "
            "with its counters.",
        ),
    ] = False,
    public_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            help="File of a public key: obey only what it has signed. Repeatable: one of the keys "
            "must have signed.",
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            metavar="ID",
            help="With --public-key: the identity of the store, which `ratectl doctor` shows.  "
            "[default: the first that the agent finds]",
        ),
    ] = None,
    rls: Annotated[
        str | None,
        typer.Option(
            "--rls",
            metavar="ADDR",
            help="Answer Envoy's Rate Limit Service on this address: 127.0.0.1:8081, or "
            "unix:/path. Whoever reaches it can use up limits.",
        ),
    ] = None,
    rls_server: Annotated[
        Literal["libnghttp2", "ngh2", "grpcio"] | None,
        typer.Option(
            "--rls-server",
            help="What speaks HTTP/2 for --rls.  [default: the first that is here: the system's "
            "libnghttp2, ngh2 of ratectl's extra `sidecar`, grpcio]",
        ),
    ] = None,
    rls_tls: Annotated[
        list[str] | None,
        typer.Option(
            "--rls-tls",
            metavar="FILE",
            help="PEM file for --rls; give it twice, or three times, as for --admin-tls. It is "
            "read again when it changes.",
        ),
    ] = None,
    rls_mapping: Annotated[
        str | None,
        typer.Option(
            "--rls-mapping",
            metavar="FILE",
            help="File that maps Envoy's domains and descriptors to scopes. It is read again when "
            "it changes.",
        ),
    ] = None,
    xds: Annotated[
        str | None,
        typer.Option(
            "--xds",
            metavar="HOST:PORT",
            help="With --rls: take limits and mapping from Envoy Gateway, or another server of "
            "xDS. They are published to the store, a SQLite file of its own, as the set `xds`.",
        ),
    ] = None,
    xds_tls: Annotated[
        list[str] | None,
        typer.Option(
            "--xds-tls",
            metavar="FILE",
            help="PEM file for --xds; give it three times: certificate, key, and the authority of "
            "the server. They are read again for each connection.",
        ),
    ] = None,
    xds_node: Annotated[
        str | None,
        typer.Option(
            "--xds-node",
            metavar="ID",
            help="Name under which the server of --xds has the limits.  [default: envoy-ratelimit]",
            show_default=False,
        ),
    ] = None,
    xds_across: Annotated[
        Literal["redis"] | None,
        typer.Option(
            "--xds-across",
            metavar="redis",
            help="Let a Redis server count the limits of --xds for all sidecars.  "
            "[default: each sidecar counts for itself]",
            show_default=False,
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            "--http",
            metavar="ADDR",
            help="Answer JSON over HTTP on this address: POST /v1/check, and GET /v1/openapi.json "
            "for the rest. Whoever reaches it can use up limits.",
        ),
    ] = None,
    http_tls: Annotated[
        list[str] | None,
        typer.Option("--http-tls", metavar="FILE", help="PEM file for --http, as for --rls-tls."),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            "--drain-seconds",
            metavar="SECONDS",
            min=0,
            max=600,
            help="With --rls or --http: go on answering for so long after SIGTERM, while health "
            "checks say NOT_SERVING, so that callers with health checks go elsewhere first.  "
            "[default: 0]",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="ADDR",
            help="Serve /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9464.",
        ),
    ] = None,
    admin: Annotated[
        str | None,
        typer.Option(
            "--admin",
            metavar="ADDR",
            help="Serve a page and /v1/usage on this address: unix:/path, or a port of 127.0.0.1; "
            "elsewhere only with a token or certificates.",
        ),
    ] = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            "--admin-token-file",
            metavar="FILE",
            help="File of the bearer token that requests to --admin must carry.",
        ),
    ] = None,
    admin_tls: Annotated[
        list[str] | None,
        typer.Option(
            "--admin-tls",
            metavar="FILE",
            help="PEM file for --admin; give it twice, or three times: certificate, key, and the "
            "authority of clients' certificates.",
        ),
    ] = None,
) -> int:
    """Run an agent until stopped.

    Follows the store, logs every change of generation on standard error, and reports what it
    enforces. If the store is down, starts with the last good generation. SIGTERM or Ctrl-C ends it
    cleanly. What it has counted is saved then, and every ten seconds: the next process of this
    agent goes on with it.

    With --rls it is a sidecar: it decides what Envoy asks. A domain is a scope, its descriptors'
    entries are attributes, unless --rls-mapping says otherwise. With --xds it stands where Envoy
    Gateway expects envoyproxy/ratelimit. With --http, services in any language ask it over HTTP.

    Examples:
      ratectl agent run
      ratectl agent run --id edge-1 --state-dir /var/lib/ratectl --store etcd://etcd:2379/prod
      ratectl agent run --public-key /etc/ratectl/platform.pub
      ratectl agent run --rls 127.0.0.1:8081 --metrics 127.0.0.1:9464
      ratectl agent run --rls 0.0.0.0:8081 --xds envoy-gateway:18001
      ratectl agent run --http 127.0.0.1:8082
      ratectl agent run --metrics 127.0.0.1:9464 --admin unix:/run/ratectl/admin.sock

    Exit codes:
      0   stopped by SIGTERM or SIGINT
      64  wrong arguments
    """
    from ratectl import Agent
    from ratectl.stores import in_one_process
    from ratectl_cli.inputs.serving import check_needs_admin, tls_of, token_in
    from ratectl_cli.inputs.sidecars import SidecarOptions

    session = session_of(ctx)
    if session.options.timeout is not None:
        raise UsageError("an agent runs until it is stopped: it takes no --timeout")
    if environment is not None and not public_keys:
        missing = UsageError("--environment needs --public-key: only a signature can prove it")
        missing.add_note("add --public-key FILE")
        raise missing
    token, tls = token_in(admin_token), tls_of("--admin-tls", admin_tls)
    check_needs_admin(admin, token, tls)
    sidecar = SidecarOptions(
        rls=rls,
        rls_server=rls_server,
        rls_tls=rls_tls,
        rls_mapping=rls_mapping,
        xds=xds,
        xds_tls=xds_tls,
        xds_node=xds_node,
        xds_across=xds_across,
        http=http,
        http_tls=http_tls,
        drain_seconds=drain_seconds,
    )
    with logging_to_stderr(level_of(session.options)) as log, waiting_for_signals() as wait_for_one:
        url = session.store_url
        with Agent(
            url,
            id=agent_id,
            state_dir=state_dir,
            public_keys=public_keys or None,
            environment=environment,
            keep_counters=not forget and not in_one_process(url),
        ) as agent:
            log.info("agent %s follows %s", agent.id, url)
            status = agent.status
            if status.source == "last-good":
                log.info("generation %d is in force, from disk", status.generation)
            elif not status.generation:
                log.info("no generation yet: %s", status.error)
            with ExitStack() as running:
                drain = sidecar.start(agent, running, log)
                # After those: /readyz says that they listen.
                if not metrics is admin is None:
                    served = agent.serve(metrics=metrics, admin=admin, token=token, tls=tls)
                    for name, at in (("metrics", served.metrics), ("admin", served.admin)):
                        if at is not None:
                            log.info("%s on %s", name, at)
                wait_for_one()
                log.info("stopping")
                drain()
        data = {"id": agent.id, "generation": agent.generation or None}
        session.answer("AgentRun", data, list)
        log.info("stopped on generation %d", agent.generation)
    return 0


__all__ = ["run"]

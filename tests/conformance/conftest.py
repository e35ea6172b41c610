"""Every test here runs on every implementation: both stores, each engine."""

from conformance.engine_rig import eager_threads, engine, rig  # noqa: F401 - fixtures

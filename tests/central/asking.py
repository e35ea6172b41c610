"""Policies with a central limit, and both ways to ask an agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    import ratectl

__all__ = ["ACME", "HEAD", "SPIKE", "both", "in_task", "in_thread"]

HEAD: Final = "apiVersion: ratectl/v1\nscope: /\n"
SPIKE: Final = HEAD + "limits:\n  spike: {rate: 1/h, burst: 3, per: tenant, across: redis}\n"
ACME: Final = {"tenant": "acme"}


def in_task(agent: ratectl.Agent, *question: Any) -> ratectl.Decision:
    async def ask() -> ratectl.Decision:
        return await agent.acheck(*question)

    return asyncio.run(ask())


def in_thread(agent: ratectl.Agent, *question: Any) -> ratectl.Decision:
    return agent.check_blocking(*question)


both = pytest.mark.parametrize("ask", [in_task, in_thread])
"""Runs a test for each of both ways."""

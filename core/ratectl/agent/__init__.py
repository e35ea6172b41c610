"""Agents: see :class:`ratectl.agent.agent.Agent`, public as ``ratectl.Agent``."""

from ratectl.agent.agent import Agent

__all__ = ["Agent"]

"""Limits across the cluster: members own shares of a limit, lend them to an owner, and draw tokens.

State machines without sockets, threads or clocks: each method takes the time and an event, and
returns the messages to send. The tests and agents run the same code. Sources and the proof:
docs/cluster.md.
"""

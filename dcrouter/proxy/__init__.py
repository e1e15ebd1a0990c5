"""The TCP half: a connection is accepted, looked at, routed, and answered or relayed.

listener -> session -> table (match) -> actions/ or http/ -> targets -> relay.
"""

"""How a connection to another server is made: decided before each one by `email.egress`, and kept apart from then on.

way: a decision. rules: which rule decides, and why. asking: what code of the operator's says (`select`). legs: the ways
of one message's recipients to one or more servers. proxies: those that are named, how they are, what they did.
"""

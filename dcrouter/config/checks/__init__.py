"""What must hold beyond the types: within values, and between them.

values, mail, upstreams: within one value, while it is read. knowable: what nobody ever tells a route. files: the files
that are named. covers: what certificates are for. acme: within `certificates.acme`. certified: names for which it
cannot issue. unique: names. doors: routes and mail ports on the same port.
protocols: routes that one connection needs. equals: routes that only their place in the file tells apart. expressions:
regular ones of names. loops: routes that forward to themselves. accounts: who can log in. relay: what strangers can
reach. shadows: rules that are never asked. rules: postmaster, and what else rules say.
zones: who sends to the world, and what destinations bear. egress: through which proxies.
"""

"""dcrouter: every connection finds its route, and every message its recipient; both are told in `routes.yaml`.

Two halves stand on one shared floor and have the same rhythm:

    connection:  listener -> session  -> routes (match) -> action -> target -> relay
    message:     server   -> pipeline -> rules  (match) -> action -> queue  -> delivery

Folders, in order of dependency (a module imports only from those above its own; `tests/test_layers.py`):
errors, wire, config, facts, events, interfaces, net, tls, match, targets, proxy | mail, control, admin, service, tap.
"""

__version__ = "0.1.0"

"""What the operator wrote: routes.yaml as frozen, checked values. No Twisted, no sockets.

values       admin (the whole file), routes, mail, tls: one class for each mapping, one field for each key
scalars      units, names, patterns (recipients), regex, lines (text for peers), each a form; keys: those of a class
from a file  document -> nodes -> values (read, classes, place) -> checks; load is the door, findings what is wrong
what follows order, overlap, effective (mail routes, protocols, addresses to bind); plain (for the child processes)
for people   schema (editors), reference (docs/configuration.md), written (defaults as one would write them)

A new key is a field of its class, with `key(...)` beside it: reading, errors, schema and reference follow from that.
"""

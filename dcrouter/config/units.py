"""The scalars of routes.yaml: durations, sizes, networks, ports. Text in, a value out, or ValueError with a sentence.

Durations are float seconds (`250ms 5s 10m 4h 5d`), sizes int bytes (`16KB 50MB`, 1024-based).
"""

"""Killing the service, again and again, and counting what was acknowledged: `python -m bench.reliability`."""

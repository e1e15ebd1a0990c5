"""Coverage-guided fuzzing of what reads strangers' bytes: `python -m bench.fuzz`."""

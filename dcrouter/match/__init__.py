"""Who is meant: names, addresses and recipients, found by look-ups however many there are."""

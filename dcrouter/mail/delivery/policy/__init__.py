"""How sessions with strangers' exchangers have to be secured: what their domains say by DANE and MTA-STS."""

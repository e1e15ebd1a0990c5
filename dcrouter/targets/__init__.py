"""Where it goes: which targets are tried in which order, their health, the way to them; for routes and for mail."""

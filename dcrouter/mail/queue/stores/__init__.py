"""Where queued mail is kept: on disk (`sqlite`), or in the memory of the process (`memory`)."""

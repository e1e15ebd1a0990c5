"""What keeps too much mail out, and clients that are hardly mail servers: limits, lists, greylisting."""

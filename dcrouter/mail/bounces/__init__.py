"""What comes back: what refusals mean, who is written to no more, and which incoming mail tells of failed mail."""

"""Random exchanges through the whole service, in which every octet is compared: `python -m bench.integrity`.

`streams` sends raw bytes both ways, `requests` HTTP, `hops` mail to next hops that misbehave in each phase. What an
exchange does follows from the seed and its number, so both of its ends know it without being told.
"""

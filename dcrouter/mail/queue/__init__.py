"""Keep: what was acknowledged is here until each of its recipients has been settled.

queue is the door; stores/ has the rows, schedule and wakes say when, endings and notices what an outcome means.
"""

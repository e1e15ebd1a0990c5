"""What must hold beyond the types: within values, and between them.

values: within one value, while it is read. files: the files that are named. unique: names. doors: routes and mail ports
on the same port. loops: routes that forward to themselves. rules: what strangers can reach.
"""

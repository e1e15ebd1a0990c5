"""Side-by-side measurements of dcrouter, HAProxy, nginx and Postfix doing equal work; `python -m bench` lists them.

Reading order: `rows` says what is measured and which goal it has, `rounds` how a row is run, `peers` what each side is
configured to do, `load` what is sent at them, `report` what is printed; `mailrows`, `mailrounds` and `mta` are the same
for the rows beside Postfix.
"""

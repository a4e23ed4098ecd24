"""The random canvas check: canvases drawn at random are run and compared with what they mean.

`plans` says what a canvas is and writes it as Python code, `drawing` draws one, `meaning` says which value it must have
and what it runs (an interpreter of its own, which knows nothing of either package's code), `project` has the tasks,
`running` sends canvases to a worker and compares, `shrinking` makes a failure small. The command is in `__main__`::

    python -m compat.random_canvases --count 2000 --depth 4 --backend redis:// --broker amqp:// --pool prefork
"""

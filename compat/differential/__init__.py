"""The differential check: the same scenarios on Celery and on canvaslite, and whatever differs between the two.

``python -m compat.differential [NAME ...]`` performs the scenarios (or those whose names match, with ``*``) on both
packages, each with a worker, a virtual host and databases of its own, and prints what differs. It fails on any
difference that `differences` does not list, and on one listed there that is found no more.

`scenarios` what is done; `project` the app and its tasks, `spy` what their processes tell; `wiretap` the messages as
the broker got them; `stage` what a scenario acts with; `side` one package's run; `normal` records made comparable;
`compare` the comparison.
"""

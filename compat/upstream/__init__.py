"""Celery's own tests, run on canvaslite.

``python -m compat.upstream [files]`` takes the published source package of Celery (`source`; nothing of it is kept in
this repository), runs its tests with the name ``celery`` served by canvaslite's drop-in, and by Celery itself for
comparison (`running`, with the plugin `recorder` inside pytest), and tells what differs from ``not_passed.txt``
(`verdict`), which lists each test that is not passed with the reason.
"""

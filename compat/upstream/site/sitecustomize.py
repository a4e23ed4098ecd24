"""Serves the name ``celery`` by canvaslite in each Python process that is started with this folder on its path."""

import canvaslite.dropin

canvaslite.dropin.install()

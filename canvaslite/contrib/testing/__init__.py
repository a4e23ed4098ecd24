"""Apps and workers for tests; `canvaslite.contrib.pytest` has them as fixtures."""

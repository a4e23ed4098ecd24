"""The app that a worker process of the check loads."""

from compat.random_canvases.project import from_environment

project = from_environment()
app = project.app

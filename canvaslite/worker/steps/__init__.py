"""The steps of a worker (hub, pool, consumer) and of its consumer (connection, control, tasks, event loop)."""

"""Sending: ``app.publisher`` is a `Publisher` (many messages: its ``burst()``), ``app.amqp`` an `AMQP`."""

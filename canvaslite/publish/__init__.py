"""Sending: routing, task messages, and the fast path to RabbitMQ.

``app.publisher`` is a `Publisher`, ``app.amqp`` an `AMQP`. Many messages at once go through ``app.publisher.burst()``.
"""

"""The fast path to RabbitMQ under kombu.

Whoever opens broker connections uses `connection.BrokerConnection` wherever Celery uses ``kombu.Connection``. For
RabbitMQ it picks `amqp.Transport`, whose `channel.Channel` also takes and gives messages as bytes, which `properties`
and `table` make and read.
"""

"""The fast path to RabbitMQ under kombu.

Whoever opens broker connections uses `connection.BrokerConnection` wherever Celery uses ``kombu.Connection``. For
RabbitMQ it picks `amqp.Transport`, whose `channel.Channel` also takes and gives messages as bytes:

- one message: ``channel.publish_raw``, which waits for its confirm when the connection has ``confirm_publish``;
- a burst: ``channel.frames`` of each, joined and given to ``channel.write_frames`` as often as needed, and
  ``channel.wait_for_confirms`` at the end;
- deliveries: ``channel.consume_raw``, ``ack_raw`` and ``reject_raw`` (written by the next write or ``flush``).

The bytes are made and read by `properties` and `table`.
"""

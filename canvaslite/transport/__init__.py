"""The fast path to RabbitMQ under kombu.

For whoever opens broker connections (`app`): use `connection.BrokerConnection` wherever Celery uses
``kombu.Connection`` (same arguments, also ``app.amqp.Connection``). It picks `amqp.Transport` for ``amqp://``, ``pyamqp://``
and ``amqps://`` URLs, kombu's own transport for all others. After a fork: `connection.close_inherited(connection)`.

For whoever publishes: a channel with `publish_raw` is ours (``isinstance(channel, transport.channel.Channel)``, or
``hasattr``). One message: ``channel.publish_raw(exchange, routing_key, properties, body)``, which waits for its
confirm when the connection has ``confirm_publish``. A burst: gather ``channel.frames(...)``, give them joined to
``channel.write_frames(data, count, routes)`` as often as needed, and end with ``channel.wait_for_confirms()`` (a no-op
without confirms). `properties.encode_properties`, `properties.PropertyTemplate`, `table.encode_entry` and
`table.join_entries` make the bytes.

For whoever consumes: ``channel.consume_raw(queue, callback)``, `inbound.RawDelivery`, ``channel.ack_raw`` and
``channel.reject_raw`` (written by ``channel.connection.flush()`` or any other write), `table.peek`,
`properties.decode_properties`. Register with the hub as kombu does: ``connection.register_with_event_loop(hub)``.
"""

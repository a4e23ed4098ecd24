"""Every setting: its name, default, type and meaning.

Names and defaults are those of Celery 5.7. A setting's `kind` lists the types it may have, separated by ``|``;
``None`` is always allowed and means "not set".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, NamedTuple

from canvaslite.exceptions import ImproperlyConfigured

__all__ = ('FOREIGN_PREFIXES', 'SETTINGS', 'Setting')

DEFAULT_PROCESS_LOG_FMT = '[%(asctime)s: %(levelname)s/%(processName)s] %(message)s'
DEFAULT_TASK_LOG_FMT = '[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s'


class Setting(NamedTuple):
    """One setting. Times are in seconds unless its meaning says otherwise."""

    name: str
    default: Any
    #: Accepted types: bool, int, float, str, dict, list (any sequence or set), timedelta, class (also given by
    #: name), callable, or any.
    kind: str
    meaning: str

    def check(self, value: Any) -> Any:
        """`value` as the setting keeps it: numbers and truth values may be given as text, paths as path objects.

        Raises `ImproperlyConfigured`: it is of no type that the setting may have.
        """
        if value is None:
            return None
        for kind in self.kind.split('|'):
            accepted, convert = _KINDS[kind]
            if isinstance(value, accepted):
                try:
                    return convert(value)
                except (ValueError, KeyError, OverflowError):
                    continue
        secret = any(word in self.name for word in ('password', 'key', 'url', 'backend'))
        raise ImproperlyConfigured(f'setting {self.name!r} must be {self.kind.replace("|", " or ")}, '
                                   f'not {type(value).__name__}: {"(not shown)" if secret else repr(value)[:100]}')


_TRUTH = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}


def _to_bool(value: Any) -> bool:
    return _TRUTH[value.strip().lower()] if isinstance(value, str) else bool(value)


def _to_int(value: Any) -> int:
    number = int(value)
    if isinstance(value, Real) and number != value:
        raise ValueError(value)
    return number


def _to_float(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _to_list(value: Any) -> Any:
    if isinstance(value, (str, bytes, Mapping)):
        raise ValueError(value)
    return value


def _unchanged(value: Any) -> Any:
    return value


#: For each kind: what a value may be an instance of, and what makes of it the value that is used.
_KINDS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    'bool': ((str, Integral), _to_bool), 'int': ((str, Real), _to_int), 'float': ((str, Real), _to_float),
    'str': ((str, bytes, os.PathLike), os.fsdecode), 'list': (Iterable, _to_list), 'dict': (Mapping, _unchanged),
    'class': ((str, Callable), _unchanged), 'callable': (Callable, _unchanged), 'bytes': (bytes, _unchanged),
    'timedelta': (timedelta, _unchanged), 'any': (object, _unchanged),
}

_ROWS: tuple[tuple[str, Any, str, str], ...] = (
    # -- everything
    ('accept_content', ('json',), 'list|str', 'Serializers or content types that a worker accepts.'),
    ('result_accept_content', None, 'list|str', 'The same for results; `accept_content` when not set.'),
    ('enable_utc', True, 'bool', 'Whether dates are in UTC where no time zone is set.'),
    ('imports', (), 'list|str', 'Modules that a worker imports when it starts.'),
    ('include', (), 'list|str', 'More modules to import: beside `imports`, set by the `include` argument.'),
    ('timezone', None, 'str|any', 'Name of the time zone of this app; UTC when not set.'),
    # -- beat
    ('beat_enable_remote_control', False, 'bool', 'Whether beat answers remote control.'),
    ('beat_remote_control_max_tick_age', None, 'float', 'Age of its last tick above which beat is not healthy.'),
    ('beat_max_loop_interval', 0, 'float', "Longest sleep between looks at it; 0 for the scheduler's own."),
    ('beat_schedule', {}, 'dict', 'The periodic tasks: name to entry.'),
    ('beat_scheduler', 'canvaslite.beat:PersistentScheduler', 'class', 'Class that keeps the schedule.'),
    ('beat_schedule_filename', 'celerybeat-schedule', 'str', 'File in which the schedule remembers its last runs.'),
    ('beat_sync_every', 0, 'int', 'Number of tasks after which the schedule is written; 0 for every 3 minutes.'),
    ('beat_cron_starting_deadline', None, 'int', 'How far back a missed crontab entry is still made up for.'),
    # -- the broker
    ('broker_url', None, 'str|list', 'URL of the broker; several, separated by `;` or in a list, for failover.'),
    ('broker_read_url', None, 'str|list', 'URL for consuming, when it is another.'),
    ('broker_write_url', None, 'str|list', 'URL for publishing, when it is another.'),
    ('broker_transport', None, 'str|class', 'Transport, when the URL does not say it.'),
    ('broker_transport_options', {}, 'dict', 'Options for the transport, as `confirm_publish`.'),
    ('broker_connection_timeout', 4.0, 'float', 'How long connecting may take.'),
    ('broker_connection_retry', True, 'bool', 'Whether a worker reconnects when it lost the broker.'),
    ('broker_connection_retry_on_startup', None, 'bool', 'The same at its start; when not set, as that.'),
    ('broker_connection_max_retries', 100, 'int', 'How often connecting is tried; None or 0 for ever.'),
    ('broker_channel_error_retry', False, 'bool', 'Whether a worker goes on after an error on a channel.'),
    ('broker_failover_strategy', None, 'str|callable', 'Order of the URLs: `round-robin`, `shuffle`, or a function.'),
    ('broker_heartbeat', 120, 'int', 'Interval of AMQP heartbeats that is asked for.'),
    ('broker_heartbeat_checkrate', 3.0, 'float', 'How often in that interval heartbeats are checked.'),
    ('broker_login_method', None, 'str', 'AMQP login mechanism, as `PLAIN` or `EXTERNAL`.'),
    ('broker_native_delayed_delivery_queue_type', 'quorum', 'str', 'Type of the queues of native delayed delivery.'),
    ('broker_pool_limit', 10, 'int', 'Most connections at once for publishing; None for any number, 0 for no pool.'),
    ('broker_pool_acquire_timeout', None, 'float', 'How long to wait for a free connection of the pool.'),
    ('broker_use_ssl', False, 'bool|dict', 'TLS to the broker, and its options.'),
    ('broker_host', None, 'str', 'Host of the broker, where the URL does not say it.'),
    ('broker_port', None, 'int', 'Port of the broker, where the URL does not say it.'),
    ('broker_user', None, 'str', 'User at the broker, where the URL does not say it.'),
    ('broker_password', None, 'str', 'Password at the broker, where the URL does not say it.'),
    ('broker_vhost', None, 'str', 'Virtual host, where the URL does not say it.'),
    # -- remote control and events
    ('control_queue_ttl', 300.0, 'float', 'How long a remote control message waits.'),
    ('control_queue_expires', 10.0, 'float', 'How long an unused queue of remote control lives.'),
    ('control_queue_exclusive', True, 'bool', 'Whether only its worker may use a queue of remote control.'),
    ('control_queue_durable', False, 'bool', "Whether queues of remote control survive the broker's restart."),
    ('control_exchange', 'celery', 'str', 'Exchange of remote control.'),
    ('event_queue_expires', 60.0, 'float', 'How long an unused event queue lives.'),
    ('event_queue_ttl', 5.0, 'float', 'How long an event waits.'),
    ('event_queue_prefix', 'celeryev', 'str', 'First part of the names of event queues.'),
    ('event_queue_exclusive', True, 'bool', 'Whether only its receiver may use an event queue.'),
    ('event_queue_durable', False, 'bool', "Whether event queues survive the broker's restart."),
    ('event_serializer', 'json', 'str', 'Serializer of events.'),
    ('event_exchange', 'celeryev', 'str', 'Exchange of events.'),
    # -- results
    ('result_backend', None, 'str|class', 'URL or class of the result store; results are not kept when not set.'),
    ('result_backend_transport_options', {}, 'dict', 'Options for the store, as `global_keyprefix`, `retry_policy`.'),
    ('result_cache_max', -1, 'int', 'How many results a client remembers; -1 for none.'),
    ('result_compression', None, 'str', 'Compression of results.'),
    ('result_exchange', 'celeryresults', 'str', 'Exchange of results sent as messages.'),
    ('result_exchange_type', 'direct', 'str', 'Its type.'),
    ('result_expires', timedelta(days=1), 'float|timedelta', 'How long a result is kept; None or 0 for ever.'),
    ('result_chord_expires', None, 'float|timedelta', "How long a chord's parts are kept; when not set, as that."),
    ('result_failure_expires', None, 'float|timedelta', 'The same for failures; when not set, as that.'),
    ('result_persistent', None, 'bool', "Whether results sent as messages survive the broker's restart."),
    ('result_extended', False, 'bool', 'Whether name, arguments, worker, retries and queue are kept with a result.'),
    ('result_serializer', 'json', 'str', 'Serializer of results.'),
    ('result_chord_retry_interval', 1.0, 'float', 'Interval at which stores without counting look after a chord.'),
    ('result_chord_join_timeout', 3.0, 'float', 'How long collecting one part of a chord may take.'),
    ('result_backend_thread_safe', None, 'bool', "Whether a process's threads share one client of the store."),
    ('override_backends', None, 'dict', 'Classes of result stores by scheme, stronger than our own.'),
    ('result_backend_always_retry', False, 'bool', 'Whether what failed at the store is tried again.'),
    ('result_backend_max_retries', float('inf'), 'float', 'How often.'),
    ('result_backend_base_sleep_between_retries_ms', 10, 'int', 'Milliseconds before the first of these tries.'),
    ('result_backend_max_sleep_between_retries_ms', 10000, 'int', 'Milliseconds before the later ones, at most.'),
    # -- result stores
    ('cache_backend', None, 'str', 'URL of the cache, where `result_backend` is `cache`.'),
    ('cache_backend_options', {}, 'dict', 'Options for the cache client.'),
    ('database_url', None, 'str', 'URL of the database, where `result_backend` is `database`.'),
    ('database_engine_options', {'pool_pre_ping': True, 'pool_recycle': 3600}, 'dict',
     "Arguments for SQLAlchemy's `create_engine`."),
    ('database_engine_callback', None, 'callable|str', 'Called with each engine that is made.'),
    ('database_short_lived_sessions', False, 'bool', 'Whether each operation opens a session of its own.'),
    ('database_table_schemas', None, 'dict', 'Schemas of the tables: keys `task` and `group`.'),
    ('database_table_names', None, 'dict', 'Names of the tables: keys `task` and `group`.'),
    ('database_create_tables_at_setup', True, 'bool', 'Whether missing tables are made before they are needed.'),
    ('redis_backend_use_ssl', None, 'dict|bool', 'TLS to Redis, and its options.'),
    ('redis_backend_credential_provider', None, 'class|any', 'Source of Redis credentials.'),
    ('redis_db', None, 'int|str', 'Number of the Redis database.'),
    ('redis_host', None, 'str', 'Host of Redis, where the URL does not say it.'),
    ('redis_port', None, 'int', 'Port of Redis, where the URL does not say it.'),
    ('redis_username', None, 'str', 'User at Redis, where the URL does not say it.'),
    ('redis_password', None, 'str', 'Password at Redis, where the URL does not say it.'),
    ('redis_max_connections', None, 'int', 'Most connections to Redis of one process.'),
    ('redis_client_name', None, 'str', 'Name under which connections show in Redis.'),
    ('redis_socket_timeout', 120.0, 'float', 'How long reading from Redis may take.'),
    ('redis_socket_connect_timeout', None, 'float', 'How long connecting to Redis may take.'),
    ('redis_retry_on_timeout', False, 'bool', 'Whether reading is tried again after that.'),
    ('redis_socket_keepalive', False, 'bool', 'Whether TCP keepalive is on.'),
    ('redis_backend_health_check_interval', None, 'int|float', 'Interval at which idle connections are checked.'),
    # -- security
    ('security_certificate', None, 'str', 'File of the certificate that signs messages.'),
    ('security_cert_store', None, 'str', 'Files of the certificates that are trusted.'),
    ('security_key', None, 'str', 'File of the private key.'),
    ('security_key_password', None, 'bytes|str', 'Its password.'),
    ('security_digest', 'sha256', 'str', 'Digest of signatures.'),
    # -- tasks
    ('task_acks_late', False, 'bool', 'Acknowledge after a task ran, not before.'),
    ('task_acks_on_failure_or_timeout', True, 'bool', 'Acknowledge late tasks also when they fail or time out.'),
    ('task_acks_on_failure', None, 'bool', 'The same for failures only.'),
    ('task_acks_on_timeout', None, 'bool', 'The same for timeouts only.'),
    ('task_always_eager', False, 'bool', 'Run tasks where they are called, without a broker.'),
    ('task_annotations', None, 'any', 'Attributes to set on tasks: by name, or objects with `annotate(task)`.'),
    ('task_compression', None, 'str', 'Compression of task messages.'),
    ('task_create_missing_queues', True, 'bool', 'Whether queues that are not in `task_queues` are made.'),
    ('task_create_missing_queue_type', 'classic', 'str', 'Type of queues that are made so.'),
    ('task_create_missing_queue_exchange_type', None, 'str', 'Exchange type of queues that are made so.'),
    ('task_inherit_parent_priority', False, 'bool', 'Whether a task has the priority of the task that sends it.'),
    ('task_default_delivery_mode', 2, 'int|str', 'Delivery mode of task messages: 2 persistent, 1 transient.'),
    ('task_default_queue', 'celery', 'str', 'Queue of tasks that no route sends elsewhere.'),
    ('task_default_queue_type', 'classic', 'str', 'Type of that queue.'),
    ('task_default_exchange', None, 'str', 'Its exchange; named as the queue when not set.'),
    ('task_default_exchange_type', 'direct', 'str', 'Type of its exchange.'),
    ('task_default_routing_key', None, 'str', "Its routing key; the queue's name when not set."),
    ('task_default_rate_limit', None, 'str|float', 'Rate limit of tasks that have none, as `100/m`.'),
    ('task_default_priority', None, 'int|str', 'Priority of tasks that have none.'),
    ('task_eager_propagates', False, 'bool', 'Whether eager tasks raise what fails in them.'),
    ('task_ignore_result', False, 'bool', 'Whether results are not kept.'),
    ('task_store_eager_result', False, 'bool', 'Whether results of eager tasks are kept.'),
    ('task_protocol', 2, 'int', 'Version of the message protocol to send.'),
    ('task_publish_retry', True, 'bool', 'Whether publishing is tried again when the connection is lost.'),
    ('task_publish_retry_policy',
     {'max_retries': 3, 'interval_start': 0, 'interval_max': 1, 'interval_step': 0.2}, 'dict', 'How.'),
    ('task_queues', None, 'list|dict', 'Queues: kombu `Queue` objects, or names to options.'),
    ('task_queue_max_priority', None, 'int', '`x-max-priority` of queues that are made.'),
    ('task_reject_on_worker_lost', None, 'bool', 'Whether a late task goes back when its process dies.'),
    ('task_retry_on_worker_lost', False, 'bool', 'Whether a task is retried when its process dies.'),
    ('task_remote_tracebacks', False, 'bool', "Whether errors raised by `get()` show the worker's traceback."),
    ('task_repr_maxlevels', 3, 'int', 'Depth to which arguments are shown in messages and logs.'),
    ('task_routes', None, 'any', 'Routes: name or pattern to queue or options, a function, or a list of these.'),
    ('task_send_sent_event', False, 'bool', 'Whether `task-sent` events are sent.'),
    ('task_serializer', 'json', 'str', 'Serializer of task messages.'),
    ('task_soft_time_limit', None, 'float', 'After how long a task gets `SoftTimeLimitExceeded`.'),
    ('task_time_limit', None, 'float', "After how long a task's process is killed."),
    ('task_store_errors_even_if_ignored', False, 'bool', 'Whether errors are kept where results are not.'),
    ('task_track_started', False, 'bool', "Whether a task's start is kept as state STARTED."),
    ('task_allow_error_cb_on_chord_header', False, 'bool', "Whether a chord's errbacks are set on its header too."),
    # -- workers
    ('worker_agent', None, 'class', 'Bootstep class of an agent that runs beside the consumer.'),
    ('worker_autoscaler', 'canvaslite.worker.autoscale:Autoscaler', 'class', 'Class that grows and shrinks the pool.'),
    ('worker_cancel_long_running_tasks_on_connection_loss', False, 'bool',
     'Whether late tasks are stopped when the broker is lost.'),
    ('worker_soft_shutdown_timeout', 0.0, 'float', 'How long running tasks have before a cold shutdown.'),
    ('worker_enable_soft_shutdown_on_idle', False, 'bool', 'Whether that is waited for with nothing running.'),
    ('worker_concurrency', None, 'int|str', 'Number of processes or threads; the number of CPUs when not set.'),
    ('worker_consumer', 'canvaslite.worker.consumer:Consumer', 'class', 'Class that consumes.'),
    ('worker_direct', False, 'bool', 'Whether each worker has a queue of its own.'),
    ('worker_disable_rate_limits', False, 'bool', 'Whether rate limits are ignored.'),
    ('worker_deduplicate_successful_tasks', False, 'bool', 'Whether a redelivered task that succeeded is skipped.'),
    ('worker_enable_remote_control', True, 'bool', 'Whether a worker answers remote control.'),
    ('worker_hijack_root_logger', True, 'bool', 'Whether a worker sets up the root logger.'),
    ('worker_log_color', None, 'bool', 'Whether the log has colours; on terminals when not set.'),
    ('worker_log_datefmt', None, 'str', 'Format of dates in the log.'),
    ('worker_log_format', DEFAULT_PROCESS_LOG_FMT, 'str', 'Format of log lines.'),
    ('worker_lost_wait', 10.0, 'float', 'How long to wait for the result of a process that died.'),
    ('worker_max_memory_per_child', None, 'int', 'KiB of memory above which a process is replaced.'),
    ('worker_max_tasks_per_child', None, 'int', 'Number of tasks after which a process is replaced.'),
    ('worker_pool', 'prefork', 'class', 'Pool: prefork, solo, threads, or a class.'),
    ('worker_pool_putlocks', True, 'bool', 'Whether the pool takes only as many tasks as it can run.'),
    ('worker_pool_restarts', False, 'bool', 'Whether the pool can be restarted by remote control.'),
    ('worker_pool_start_method', 'fork', 'str', 'How the pool starts processes.'),
    ('worker_proc_alive_timeout', 4.0, 'float', 'How long a new process may take to start.'),
    ('worker_prefetch_multiplier', 4, 'int', 'Messages fetched ahead for each process; 0 for no limit.'),
    ('worker_eta_task_limit', None, 'int', 'Most tasks with an ETA that a worker holds.'),
    ('worker_enable_prefetch_count_reduction', True, 'bool',
     'Whether less is fetched after a lost connection, until the running tasks have ended.'),
    ('worker_disable_prefetch', False, 'bool', 'Whether a message is fetched only when a process is free.'),
    ('worker_redirect_stdouts', True, 'bool', 'Whether what tasks print goes to the log.'),
    ('worker_redirect_stdouts_level', 'WARNING', 'str|int', 'Level of what tasks print.'),
    ('worker_send_task_events', False, 'bool', 'Whether task events are sent.'),
    ('worker_state_db', None, 'str', 'File in which a worker remembers revoked tasks.'),
    ('worker_task_log_datefmt', None, 'str', 'Format of dates in the log of tasks.'),
    ('worker_task_log_format', DEFAULT_TASK_LOG_FMT, 'str', 'Format of log lines of tasks.'),
    ('worker_timer', None, 'class', 'Class of the timer.'),
    ('worker_timer_precision', 1.0, 'float', 'How late the timer may be.'),
    ('worker_detect_quorum_queues', True, 'bool', 'Whether quorum queues are prefetched from as they need.'),
    # -- what the command line takes where an option is not given, for each of its long-running commands
    *((f'{program}_{name}', None, kind, meaning) for program in ('worker', 'beat', 'events')
      for name, kind, meaning in (
        ('logfile', 'str', 'File of its log.'),
        ('pidfile', 'str', 'File with its process id.'),
        ('uid', 'str|int', 'User that it runs as.'),
        ('gid', 'str|int', 'Group that it runs as.'),
        ('umask', 'str|int', 'Its umask, in octal where it is text.'),
        ('executable', 'str', 'Python that runs it.'))),
)
#: Every setting by name.
SETTINGS: dict[str, Setting] = {row[0]: Setting(*row) for row in _ROWS}

#: First words of Celery's settings for result stores that canvaslite does not have.
FOREIGN_PREFIXES = ('arangodb_', 'azureblockblob_', 'cassandra_', 'cosmosdbsql_', 'couchbase_', 'couchdb_', 'dynamodb_',
                    'elasticsearch_', 'gcs_', 'mongodb_', 's3_')

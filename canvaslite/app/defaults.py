"""Every setting: its name, default and type.

Names and defaults are those of Celery 5.7; docs/settings.md says what each means. A setting's `kind` lists the types it
may have, separated by ``|`` (`list`: any sequence or set; `class`: also given by name). None always means "not set".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, NamedTuple

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.redact import is_secret, redact

DEFAULT_PROCESS_LOG_FMT = '[%(asctime)s: %(levelname)s/%(processName)s] %(message)s'
DEFAULT_TASK_LOG_FMT = '[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s'


class Setting(NamedTuple):
    """One setting."""

    name: str
    default: Any
    kind: str

    def check(self, value: Any) -> Any:
        """`value` as the setting keeps it: numbers, truth values, paths may be text. Raises `ImproperlyConfigured`."""
        if value is None:
            return None
        for kind in self.kind.split('|'):
            accepted, convert = _KINDS[kind]
            if isinstance(value, accepted):
                try:
                    return convert(value) if convert else value
                except (ValueError, KeyError, OverflowError):
                    continue
        raise ImproperlyConfigured(f'setting {self.name!r} must be {self.kind.replace("|", " or ")}, '
                                   f'not {type(value).__name__}: '
                                   f'{"(not shown)" if is_secret(self.name) else redact(repr(value))[:100]}')


_TRUTH = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}


def _to_int(value: Any) -> int:
    number = int(value)
    if isinstance(value, Real) and number != value:
        raise ValueError(value)
    return number


def _to_list(value: Any) -> Any:
    if isinstance(value, (str, bytes, Mapping)):
        raise ValueError(value)
    return value


#: For each kind: what a value may be an instance of, and what makes of it the value that is used, if it is another.
_KINDS: dict[str, tuple[Any, Callable[[Any], Any] | None]] = {
    'bool': ((str, Integral), lambda value: _TRUTH[value.strip().lower()] if isinstance(value, str) else bool(value)),
    'float': ((str, Real), lambda value: float(value) if isinstance(value, str) else value),
    'int': ((str, Real), _to_int), 'str': ((str, bytes, os.PathLike), os.fsdecode), 'list': (Iterable, _to_list),
    'dict': (Mapping, None), 'class': ((str, Callable), None), 'callable': (Callable, None), 'bytes': (bytes, None),
    'timedelta': (timedelta, None), 'any': (object, None),
}

_DEFAULTS: dict[str, dict[str, Any]] = {
    'bool': {
        'beat_enable_remote_control': False, 'broker_channel_error_retry': False, 'broker_connection_retry': True,
        'broker_connection_retry_on_startup': None, 'canvas_strict': False,
        'control_queue_durable': False, 'control_queue_exclusive': True,
        'database_create_tables_at_setup': True, 'database_short_lived_sessions': False, 'enable_utc': True,
        'event_queue_durable': False, 'event_queue_exclusive': True, 'redis_retry_on_timeout': False,
        'redis_socket_keepalive': False, 'result_backend_always_retry': False, 'result_backend_thread_safe': None,
        'result_canvas_index': True,
        'result_extended': False, 'result_persistent': None, 'task_acks_late': False, 'task_acks_on_failure': None,
        'task_acks_on_failure_or_timeout': True, 'task_acks_on_timeout': None,
        'security_accept_bodies': False,
        'task_allow_error_cb_on_chord_header': False, 'task_always_eager': False, 'task_create_missing_queues': True,
        'task_eager_propagates': False, 'task_ignore_result': False, 'task_inherit_parent_priority': False,
        'task_publish_retry': True, 'task_reject_on_worker_lost': None, 'task_remote_tracebacks': False,
        'task_retry_on_worker_lost': False, 'task_send_sent_event': False, 'task_store_eager_result': False,
        'task_store_errors_even_if_ignored': False, 'task_track_started': False,
        'worker_cancel_long_running_tasks_on_connection_loss': False, 'worker_deduplicate_successful_tasks': False,
        'worker_deduplicate_successors': True,
        'worker_detect_quorum_queues': True, 'worker_direct': False, 'worker_disable_prefetch': False,
        'worker_disable_rate_limits': False, 'worker_enable_prefetch_count_reduction': True,
        'worker_enable_remote_control': True, 'worker_enable_soft_shutdown_on_idle': False,
        'worker_hijack_root_logger': True, 'worker_log_color': None, 'worker_pool_putlocks': True,
        'worker_pool_restarts': False, 'worker_redirect_stdouts': True, 'worker_send_task_events': False,
    },
    'str': {
        'beat_executable': None, 'beat_logfile': None, 'beat_pidfile': None,
        'beat_schedule_filename': 'celerybeat-schedule', 'broker_host': None, 'broker_login_method': None,
        'broker_native_delayed_delivery_queue_type': 'quorum', 'broker_password': None, 'broker_user': None,
        'broker_vhost': None, 'cache_backend': None, 'control_exchange': 'celery', 'database_url': None,
        'event_exchange': 'celeryev', 'event_queue_prefix': 'celeryev', 'event_serializer': 'json',
        'events_executable': None, 'events_logfile': None, 'events_pidfile': None, 'redis_client_name': None,
        'redis_host': None, 'redis_password': None, 'redis_username': None, 'result_compression': None,
        'result_chord_join': 'native', 'result_exchange': 'celeryresults', 'result_exchange_type': 'direct',
        'result_serializer': 'json',
        'security_cert_store': None, 'security_certificate': None, 'security_digest': 'sha256', 'security_key': None,
        'task_compression': None, 'task_create_missing_queue_exchange_type': None,
        'task_create_missing_queue_type': 'classic', 'task_default_exchange': None,
        'task_default_exchange_type': 'direct', 'task_default_queue': 'celery', 'task_default_queue_type': 'classic',
        'task_default_routing_key': None, 'task_serializer': 'json', 'worker_executable': None,
        'worker_log_datefmt': None, 'worker_log_format': DEFAULT_PROCESS_LOG_FMT, 'worker_logfile': None,
        'worker_pidfile': None, 'worker_pool_start_method': 'fork', 'worker_state_db': None,
        'worker_task_log_datefmt': None, 'worker_task_log_format': DEFAULT_TASK_LOG_FMT,
    },
    'float': {
        'accept_compression_ratio': 200.0,
        'beat_max_loop_interval': 0, 'beat_remote_control_max_tick_age': None, 'broker_confirm_timeout': 10.0,
        'broker_connection_timeout': 4.0,
        'broker_heartbeat_checkrate': 3.0, 'broker_pool_acquire_timeout': None, 'control_queue_expires': 10.0,
        'control_queue_ttl': 300.0, 'event_queue_expires': 60.0, 'event_queue_ttl': 5.0,
        'redis_socket_connect_timeout': None, 'redis_socket_timeout': 120.0,
        'result_backend_max_retries': float('inf'), 'result_chord_join_timeout': 3.0,
        'result_chord_retry_interval': 1.0, 'task_soft_time_limit': None, 'task_time_limit': None,
        'worker_eta_hold_time': 30.0, 'worker_lost_wait': 10.0, 'worker_proc_alive_timeout': 4.0,
        'worker_soft_shutdown_timeout': 0.0, 'worker_timer_precision': 1.0,
    },
    'int': {
        'accept_decompressed_size': 64 << 20,
        'beat_cron_starting_deadline': None, 'beat_sync_every': 0, 'broker_confirm_window': 500,
        'broker_connection_max_retries': 100, 'broker_heartbeat': 120, 'broker_pool_limit': 10,
        'broker_port': None, 'redis_max_connections': None,
        'redis_port': None, 'result_backend_base_sleep_between_retries_ms': 10,
        'result_backend_max_sleep_between_retries_ms': 10000, 'result_cache_max': -1, 'task_protocol': 2,
        'task_queue_max_priority': None, 'task_redelivery_limit': 20, 'task_repr_maxlevels': 3,
        'task_worker_lost_limit': 3, 'worker_eta_task_limit': None,
        'worker_max_memory_per_child': None, 'worker_max_tasks_per_child': None, 'worker_prefetch_multiplier': 4,
    },
    'str|int': {
        'beat_gid': None, 'beat_uid': None, 'beat_umask': None, 'events_gid': None, 'events_uid': None,
        'events_umask': None, 'worker_gid': None, 'worker_redirect_stdouts_level': 'WARNING', 'worker_uid': None,
        'worker_umask': None,
    },
    'dict': {
        'beat_schedule': {}, 'broker_transport_options': {}, 'cache_backend_options': {},
        'database_engine_options': {'pool_pre_ping': True, 'pool_recycle': 3600}, 'database_table_names': None,
        'database_table_schemas': None, 'override_backends': None, 'result_backend_transport_options': {},
        'task_publish_retry_policy': {'max_retries': 3, 'interval_start': 0, 'interval_max': 1, 'interval_step': 0.2},
    },
    'class': {
        'beat_scheduler': 'canvaslite.beat:PersistentScheduler', 'worker_agent': None,
        'worker_autoscaler': 'canvaslite.worker.autoscale:Autoscaler',
        'worker_consumer': 'canvaslite.worker.consumer:Consumer', 'worker_pool': 'prefork', 'worker_timer': None,
    },
    'list|str': {'accept_content': ('json',), 'imports': (), 'include': (), 'result_accept_content': None},
    'int|str': {
        'redis_db': None, 'task_default_delivery_mode': 2, 'task_default_priority': None, 'worker_concurrency': None,
    },
    'str|list': {'broker_read_url': None, 'broker_url': None, 'broker_write_url': None},
    'float|timedelta': {
        'result_chord_deadline': timedelta(days=7), 'result_chord_expires': None, 'result_expires': timedelta(days=1),
        'result_failure_expires': None,
    },
    'str|class': {'broker_transport': None, 'result_backend': None},
    'any': {'task_annotations': None, 'task_routes': None},
    'str|any': {'timezone': None},
    'str|callable': {'broker_failover_strategy': None},
    'bool|dict': {'broker_use_ssl': False},
    'callable|str': {'database_engine_callback': None},
    'dict|bool': {'redis_backend_use_ssl': None},
    'class|any': {'redis_backend_credential_provider': None},
    'int|float': {'redis_backend_health_check_interval': None},
    'bytes|str': {'security_key_password': None},
    'str|float': {'task_default_rate_limit': None},
    'list|dict': {'task_queues': None},
}

SETTINGS: dict[str, Setting] = {name: Setting(name, default, kind) for kind, defaults in _DEFAULTS.items()
                               for name, default in defaults.items()}

#: First words of Celery's settings for result stores that canvaslite does not have.
FOREIGN_PREFIXES = ('arangodb_', 'azureblockblob_', 'cassandra_', 'cosmosdbsql_', 'couchbase_', 'couchdb_', 'dynamodb_',
                    'elasticsearch_', 'gcs_', 'mongodb_', 's3_')

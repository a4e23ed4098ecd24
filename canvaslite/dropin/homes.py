"""Where Celery's modules are in canvaslite: those that have another name or became several."""

from __future__ import annotations

#: Celery's module (without ``celery.``): ours. Where there are several, the first is it and shows the others' names.
#: A module that is not here has the same name in both.
HOMES: dict[str, tuple[str, ...]] = {
    '_state': ('dropin.private', 'current', 'result.blocking'),
    'app': ('app', 'current', 'app.application', 'app.declare'),
    'app.amqp': ('publish.amqp', 'publish.queues', 'publish.messages', 'publish.options'),
    'app.autoretry': ('app.retry',),
    'app.backends': ('backends',),
    'app.base': ('app.application', 'app.services', 'app.declare', 'app.connections', 'current'),
    'app.control': ('control',),
    'app.registry': ('app.declare',),
    'app.routes': ('publish.routes',),
    'app.task': ('app.task', 'app.replace', 'app.retry', 'current'),
    'app.trace': ('execution.tracer', 'execution.run', 'execution.entry', 'execution.outcome', 'execution.keeping',
                  'execution.successors', 'execution.announcing', 'execution.duplicates', 'execution.verdicts'),
    'app.utils': ('app.settings', 'app.sources', 'app.application'),
    'backends.asynchronous': ('backends.waiting',),
    'backends.base': ('backends.base', 'backends.store', 'backends.keyvalue', 'backends.waiting', 'backends.codec',
                      'backends.chords', 'backends.failures'),
    'canvas': ('canvas', 'canvas.signatures', 'canvas.chains', 'canvas.groups', 'canvas.chords', 'canvas.mapping',
               'canvas.stamping', 'canvas.members', 'canvas.parts', 'canvas.steps', 'canvas.freezing'),
    'concurrency': ('pools',),
    'concurrency.base': ('pools.base',),
    'concurrency.prefork': ('pools.prefork', 'pools.prefork.pool', 'pools.prefork.child'),
    'concurrency.solo': ('pools.solo',),
    'concurrency.thread': ('pools.thread',),
    'loaders': ('dropin',),
    'loaders.base': ('dropin.private',),
    'local': ('utils.proxies',),
    'platforms': ('utils.process', 'worker.pidfile'),
    'result': ('result', 'result.async_result', 'result.result_set', 'result.blocking', 'result.stored'),
    'utils': ('utils', 'utils.functional', 'utils.imports', 'utils.nodenames', 'utils.saferepr'),
    'utils.collections': ('worker.state',),
    'utils.dispatch': ('signals',),
    'utils.log': ('utils.log', 'app.log'),
    'utils.objects': ('dropin.private',),
    'utils.serialization': ('backends.codec', 'dropin.private'),
    'utils.time': ('utils.time', 'dropin.private'),
    'worker': ('worker', 'worker.worker'),
    'worker.control': ('worker.commands',),
    'worker.state': ('worker.state', 'dropin.private'),
    'worker.request': ('worker.request', 'worker.outcomes', 'worker.policies'),
}

#: Names that Celery calls otherwise: ``module:name`` of ours.
RENAMED: dict[str, dict[str, str]] = {
    '': {'VERSION': 'dropin.private:VERSION'},
    'canvas': {
        '_merge_dictionaries': 'canvas.stamping:merge_stamps',
        **{name: f'dropin.private:{name}' for name in (
            '_clear_chord_option', '_fold_chain', '_maybe_group', '_merge_chain_step', '_strip_chord_header_links')},
    },
    '_state': {
        '_get_current_app': 'current:get_current_app', '_set_current_app': 'current:set_current_app',
        '_register_app': 'current:register_app', '_deregister_app': 'current:deregister_app',
        '_get_active_apps': 'current:active_apps', '_app_or_default': 'current:app_or_default',
        '_on_app_finalizers': 'current:_finalizers', '_task_stack': 'current:task_stack', '_tls': 'current:_current',
        '_TLS': 'dropin.private:_TLS',
        '_set_task_join_will_block': 'result.blocking:set_task_join_will_block',
    },
    'app.autoretry': {'get_exponential_backoff_interval': 'app.retry:backoff_interval'},
    'app.backends': {'by_url': 'backends:by_url'},
    'app.base': {'_task_stack': 'current:task_stack'},
    'app.task': {'_task_stack': 'app.eager:task_stack', '_reprtask': 'dropin.private:_reprtask'},
    'backends.cache': {'DummyClient': 'backends.cache:Memory'},
    'local': {'maybe_evaluate': 'utils.proxies:maybe_evaluate'},
    'app.amqp': {'utf8dict': 'dropin.private:utf8dict'},
    'app.registry': dict.fromkeys(('_unpickle_task', '_unpickle_task_v2'), 'app.task:restore_task'),
    'platforms': {'pyimplementation': 'dropin.private:pyimplementation'},
    'utils': {'uuid': 'utils.uuid:uuid', 'gen_unique_id': 'utils.uuid:uuid'},
    'utils.log': {'LoggingProxy': 'app.log:LineLogger', 'ColorFormatter': 'app.log:ProcessFormatter'},
    'worker': {'WorkController': 'worker.worker:Worker'},
}

"""`chain`: tasks one after another, each with the result of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial as bind
from typing import Any

from canvaslite.canvas.freezing import Freezing, bind_end, drive, freezing_steps, lay_out
from canvaslite.canvas.members import is_empty_group, is_signature, is_strict
from canvaslite.canvas.parts import Canvas, apply_part, name_module_once
from canvaslite.canvas.records import recorded
from canvaslite.canvas.signatures import Signature, maybe_signature
from canvaslite.canvas.steps import fold_chain
from canvaslite.canvas.strict import hand_down, joined, strict_copy
from canvaslite.result.blocking import allow_join_result
from canvaslite.states import IGNORED, REJECTED
from canvaslite.utils.functional import given, maybe_list
from canvaslite.wire import CHAIN

#: Options of a chain that are not its first step's.
_OWN_OPTIONS = frozenset({
    'chain', 'chord', 'group_id', 'group_index', 'link', 'link_error', 'parent_id', 'reply_to', 'root_id', 'task_id',
})


@Canvas.register_type(name='chain')
class _chain(Canvas):
    """A chain with the steps as they are given: what `chain` and ``|`` make, and what comes over the wire."""

    KIND, PARTS, STAMPED_AS = 'chain', ('tasks',), 'chain'

    #: Prepared steps and their results, both last first, once frozen.
    _frozen: tuple[list[Any], list[Any]] | None = None
    #: Whether those who get the steps only see links (None: in protocol 1), and a chord's body has to stay whole.
    _use_link: bool | None = None

    def __init__(self, *tasks: Any, use_link: bool | None = None, **options: Any) -> None:
        self._use_link = use_link
        if len(tasks) == 1 and _is_many(tasks[0]):
            tasks = tasks[0]
        app = options.get('app')
        super().__init__(CHAIN, (), {'tasks': [_as_step(task, app) for task in tasks]}, **options)
        self['subtask_type'] = 'chain'

    @classmethod
    def of_steps(cls, steps: list[Any], app: Any, owned: int, shared: bool) -> Any:
        """A chain of these signatures. No user holds the first `owned` of them; `shared`: another canvas does."""
        made: Any = dict.__new__(cls)
        made.update(task=CHAIN, args=(), kwargs={'tasks': steps}, options={}, subtask_type='chain', immutable=False)
        made._app, made._owned, made._shared = app, owned, shared and owned > 0
        return made

    def lend_steps(self) -> tuple[list[Any], int, bool]:
        """Steps for another chain that begins with this one's, how many of them it owns, and whether it shares them.

        What only canvases hold is shared until somebody looks at it (`tasks`), so that ``c = c | s`` in a loop does
        not copy the whole chain each time.
        """
        steps: list[Any] = self['kwargs']['tasks']
        if self['options'] or self['args'] or self['immutable']:
            return self.unchain_tasks(), len(steps), False
        self._shared = self._owned > 0
        return [*steps[:self._owned], *(step.clone() for step in steps[self._owned:])], len(steps), self._shared

    def unchain_tasks(self) -> list[Any]:
        """Copies of its steps that mean what the chain means: with its links, options, arguments and immutability."""
        steps = [step.clone() for step in self['kwargs']['tasks']]
        if not steps:
            return steps
        options = {name: value for name, value in self['options'].items() if name not in _OWN_OPTIONS}
        if options and is_strict(self):
            for step in steps:
                hand_down(step, options)
        elif options:
            steps[0]['options'].update(options)
        if self['args']:
            steps[0].accept_partial(self['args'])
        if self['immutable']:
            steps[0].set_immutable(True)
        for callback in maybe_list(self['options'].get('link')) or ():
            steps[-1].link(maybe_signature(callback, clone=True))
        _link_errors(steps, self['options'].get('link_error'))
        return steps

    def with_steps(self, steps: list[Any]) -> Any:
        """A chain like this one with other steps."""
        chain = type(self)(steps, app=self._app)
        chain.update((key, value) for key, value in self.items() if key != 'kwargs')
        return chain

    set_immutable = Signature.set_immutable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with partial arguments for its first step."""
        return self.apply_async(args, kwargs) if self['kwargs']['tasks'] else None

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Send it; returns the result of its last step, whose ``parent`` is that of the one before, and so on."""
        app = self.app
        if not self._disposable and app.conf.canvas_strict and self['kwargs']['tasks']:
            copy, options = strict_copy(self, options)
            for links in (copy['options'].pop('link', None), options.pop('link', None)):
                for callback in maybe_list(links) or ():
                    copy['kwargs']['tasks'][-1].link(maybe_signature(callback, clone=True))
            return copy.apply_async(args, kwargs, **options)
        if app.conf.task_always_eager:
            with allow_join_result():
                return self.apply(args, kwargs, **options)
        return self.run(args, kwargs, app=app, **{**self['options'], **options})

    def run(self, args: Any = None, kwargs: Any = None, group_id: str | None = None, chord: Any = None,
            task_id: str | None = None, link: Any = None, link_error: Any = None, publisher: Any = None,
            producer: Any = None, root_id: str | None = None, parent_id: str | None = None, app: Any = None,
            group_index: int | None = None, **options: Any) -> Any:
        """Send the first step with the others as what follows it; `options` are the first step's."""
        args, kwargs = ((), {}) if self['immutable'] else (tuple(args or ()), kwargs or {})
        if self._disposable and self._frozen is not None:
            steps, results = self._frozen
            if steps:
                steps[-1].accept_partial((*args, *self['args']), kwargs)
            _link_errors(steps, link_error)
            if chord is not None:
                bind_end(self, group_id, chord)
        else:
            steps = self._lay_out((*args, *self['args']), kwargs, self['kwargs']['tasks'], link_error,
                                  app or self.app, True)
            results = drive(freezing_steps(steps, root_id, _id=task_id, group_id=group_id, chord=chord,
                                           group_index=group_index))
        if not results:
            return None
        if link and steps[0].KIND == 'group':
            for callback in maybe_list(link) or ():
                steps[0].link(maybe_signature(callback))
        elif link:
            steps[0].extend_list_option('link', link)
        *rest, first = steps
        # What followed the chain itself comes after its own steps: both lists have the next step last.
        options.update(producer=producer, parent_id=parent_id, chain=[*(options.get('chain') or ()), *rest])
        with recorded(app or self.app, results[0].id, lambda record: record.chain(steps[::-1]), root_id):
            result = first.apply_async(**given(options))
        return results[0] if rest else result

    def prepare_steps(self, args: Any, kwargs: Any, tasks: Any, root_id: str | None = None,
                      parent_id: str | None = None, link_error: Any = None, app: Any = None,
                      last_task_id: str | None = None, group_id: str | None = None, chord_body: Any = None,
                      clone: bool = True, from_dict: Callable[..., Any] = Signature.from_dict,
                      group_index: int | None = None) -> tuple[list[Any], list[Any]]:
        """The frozen steps and their results, both with the last step first: its `tasks` as they travel.

        Partial `args` and `kwargs` go to the first step, `link_error` to each; the others to the last one. Without
        `clone` the signatures themselves are frozen.
        """
        steps = self._lay_out(args, kwargs if clone else None, tasks, link_error, app or self.app, clone, from_dict)
        results = drive(freezing_steps(steps, root_id, _id=last_task_id, group_id=group_id, chord=chord_body,
                                       group_index=group_index))
        self.id = results[0].id if results else last_task_id
        return steps, results

    def _lay_out(self, args: Any, kwargs: Any, tasks: Any, link_error: Any, app: Any, clone: bool,
                 from_dict: Callable[..., Any] = Signature.from_dict) -> list[Any]:
        rebuild = clone or self._disposable
        split = clone or (rebuild and not (app.conf.task_protocol == 1 if self._use_link is None else self._use_link))
        steps = lay_out(tasks, bind(from_dict, app=app), copy=clone, split=split)
        if steps:
            steps[-1].accept_partial(args, kwargs)
        _link_errors(steps, link_error)
        if rebuild and steps and steps[0].KIND == 'group':
            steps[0] = joined(steps[0])
        for step in steps:
            if step.KIND == 'chord':
                app.backend.ensure_chords_allowed()
            step._disposable = rebuild and step.KIND != 'task'
        return steps

    def freezing(self, root_id: str | None = None, parent_id: str | None = None, **of_end: Any) -> Freezing:
        """`freeze`, to be driven."""
        # The first step has its partial arguments from now on, unless it is a copy, made anew when the chain is sent.
        args = self['args'] if _first_task(self) is not None else ()
        steps = self._lay_out(args, None, self.tasks, None, self.app, False)
        if args:
            self['args'] = ()
        fresh = self._take_fresh()
        for step in steps:
            step._fresh = fresh
        results = yield from freezing_steps(steps, root_id, **of_end)
        self._frozen = steps, results
        self.id = results[0].id if results else of_end.get('_id')
        if self._disposable:
            self['kwargs']['tasks'] = steps[::-1]
        return results[0] if results else None

    def accept_partial(self, args: Any = None, kwargs: Any = None) -> None:
        """Add partial arguments for its first step, in place."""
        if self['immutable'] or not (args or kwargs):
            return
        self['args'] = (*args, *self['args']) if args else self['args']
        if kwargs and self['kwargs']['tasks']:
            self.tasks[0].accept_partial(None, kwargs)

    def applying(self, args: Any, kwargs: Any, **options: Any) -> Freezing:
        """`apply`, to be driven."""
        options = {**self['options'], **options}
        link, task_id = options.pop('link', None), options.pop('task_id', None)
        steps = lay_out(self['kwargs']['tasks'], bind(Signature.from_dict, app=self._app), copy=True, split=False)[::-1]
        if link and steps:
            last = steps[-1].body if steps[-1].KIND == 'chord' else steps[-1]
            last.extend_list_option('link', link)
        if task_id and steps and steps[-1].KIND == 'task':
            steps[-1].id = task_id
        args, last = (*(() if self['immutable'] else args or ()), *self['args']), None
        for step in steps:
            if last is not None:
                with allow_join_result():  # also inside a task, as what ran here need not be waited for
                    args, kwargs = (last.get(),), None
            result = yield from apply_part(step, args, kwargs, **options)
            result.parent, last = last, result
            if getattr(result, 'state', None) in (IGNORED, REJECTED):
                break
        return last

    def describe(self, show: Callable[[Any], str]) -> str:
        """Its text, of those of its parts."""
        steps = self['kwargs']['tasks']
        if not steps:
            return f'<{type(self).__name__}@{id(self):#x}: empty>'
        return name_module_once(steps[0], ' | '.join(map(show, steps)))


class chain(_chain):
    """Steps run one after another, each called with the result of the one before.

    `tasks` are signatures, or one iterable of them. Steps are composed as by ``|``, so that what comes out may be a
    group or a chord; with options (``chain(a, b, task_id=...)``) they stay as they are given.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        if cls is chain and tasks and not options and (len(tasks) != 1 or _is_many(tasks[0])):
            operands = tasks[0] if len(tasks) == 1 else tasks
            return fold_chain([_as_step(operand) for operand in operands], _chain)
        return super().__new__(cls)


def _link_errors(steps: list[Any], errbacks: Any) -> None:
    for errback in maybe_list(errbacks) or ():
        for step in steps:
            step.link_error_of_chain(maybe_signature(errback, clone=True))


def _first_task(sig: Any) -> Any:
    """The task that a chain begins with, None if it begins with anything else."""
    while is_signature(sig) and sig.KIND == 'chain':
        sig = next((step for step in sig.tasks if not (is_signature(step) and is_empty_group(step))), None)
    return sig if is_signature(sig) and sig.KIND == 'task' else None


def _as_step(step: Any, app: Any = None) -> Any:
    return maybe_signature(step, app=app) if isinstance(step, dict) and not is_signature(step) else step


def _is_many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))

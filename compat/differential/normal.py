"""One record in a form that can be compared: names in place of ids, words in place of times and processes.

An id is named after what it is the id of: a task after its call, in the form in which it was first seen in a message,
a group after its first member. So the same task has the same name on both sides, whatever else differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Record = dict[str, Any]

UUID = re.compile(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}')
TIME = re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{6})?')
PROJECT = 'compat.differential.project.'
#: In this order.
WORDS = (
    (TIME, 'TIME'),
    (re.compile(r'\bgen\d+@\S+'), 'PROCESS'),
    (re.compile(r'0x[0-9a-f]{6,}'), 'ADDRESS'),
    (re.compile(re.escape(PROJECT)), ''),
    (re.compile(r'\bcanvaslite\b'), 'celery'),
    (re.compile(r'(?<=Retry in )[-0-9.]+s'), 'SECONDS'),
)
#: A message's way: what is told before a task runs somewhere, and what while it does, comes from different processes.
PUBLISHING = ('before_task_publish', 'after_task_publish')


class Names:
    """Names of ids: the calls that they are the ids of, numbered where several are alike."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        #: Of each call its ids, with their place in a group.
        self.calls: dict[str, dict[str, int]] = {}
        #: What `replace` made of a text: most occur many times.
        self.replaced: dict[str, str] = {}
        #: Members of chords' headers, of which any may be the last, that is the parent of the body.
        self.one_of: dict[str, str] = {}
        #: Roots of those, of which the root of the body is one.
        self.roots: dict[str, str] = {}

    def add(self, id: Any, name: str, place: int | None = None) -> None:
        """Note what an id is the id of, unless that is known."""
        if isinstance(id, str) and UUID.fullmatch(id) and not any(id in ids for ids in self.calls.values()):
            name = UUID.sub('…', name).replace(PROJECT, '')
            self.calls.setdefault(name, {})[id] = -1 if place is None else place

    def give(self) -> None:
        """Give the names."""
        for name, ids in self.calls.items():
            for number, id in enumerate(sorted(ids, key=lambda id: ids[id]), 1):
                self.names.setdefault(id, f'<{name}>' if len(ids) == 1 else f'<{name} no. {number}>')

    def replace(self, text: str) -> str:
        """The text with names for ids, and words for what no two runs have in common."""
        replaced = self.replaced.get(text)
        if replaced is None:
            replaced = UUID.sub(lambda found: self.names.get(found[0], '<id>'), text)
            for pattern, word in WORDS:
                replaced = pattern.sub(word, replaced)
            self.replaced[text] = replaced
        return replaced

    def apply(self, value: Any) -> Any:
        """The same for all texts in `value`."""
        if isinstance(value, str):
            return self.replace(value)
        if isinstance(value, list):
            return [self.apply(member) for member in value]
        if isinstance(value, dict):
            return {self.replace(key): self.apply(self._ancestor(key, member)) for key, member in value.items()}
        return value

    def _ancestor(self, key: str, id: Any) -> Any:
        """What stands for a parent or root that is left to chance; anything else as it is."""
        if key not in ('parent_id', 'root_id') or not isinstance(id, str):
            return id
        left_to_chance = self.roots if key == 'root_id' else self.one_of
        return left_to_chance.get(id) or self.one_of.get(id, id)


def name_ids(record: Record) -> Names:
    """Names of all ids of a record."""
    names = Names()
    names.add(record['sender'], 'the sender')
    groups: dict[str, list[tuple[int, str]]] = {}
    for message in record['messages']:
        headers = message['headers']
        names.add(headers.get('id'), call_text(headers.get('task'), headers.get('argsrepr'), headers.get('kwargsrepr')),
                  headers.get('group_index'))
        groups.setdefault(headers.get('group') or '', []).append((headers.get('group_index') or 0, headers.get('id')))
        for sig in signatures(message['body']):
            options = sig.get('options') or {}
            if sig.get('subtask_type') in ('chain', 'group', 'chord') or not options.get('task_id'):
                continue  # a canvas has the id of a group or of a task in it
            names.add(options['task_id'], call_text(sig['task'], sig.get('args'), sig.get('kwargs')),
                      options.get('group_index'))
            groups.setdefault(options.get('group_id') or '', []).append(
                (options.get('group_index') or 0, options['task_id']))
    for seen in record['seen']:
        if seen['kind'] == 'run':  # in this process: no message told of it
            request = seen['request']
            names.add(seen['id'], call_text(seen['task'], request['args'], request['kwargs']))
    names.give()
    for id, members in groups.items():
        names.add(id, f'group of {min((place, names.names.get(member, "")) for place, member in members)[1][1:-1]}')
    names.give()
    roots: dict[str, set[str]] = {}
    for message in filter(headed, record['messages']):
        headers = message['headers']
        names.one_of[headers['id']] = f'one of {names.names.get(headers["group"])}'
        roots.setdefault(headers['group'], set()).add(headers['root_id'])
    for different in roots.values():
        if len(different) > 1:
            names.roots.update(dict.fromkeys(different, 'the root of one of a header'))
    for tree in trees(record['results']):
        name_tree(names, tree)
    names.give()
    return names


def headed(message: Record) -> bool:
    """Whether the message is of a chord's header."""
    body = message['body']
    return bool(isinstance(body, list) and len(body) == 3 and body[2].get('chord'))


def call_text(task: Any, args: Any, kwargs: Any) -> str:
    """A call as a name."""
    args = args[1:-1].rstrip(',') if isinstance(args, str) else ', '.join(map(repr, args or ()))
    args = args.partition('{')[0]  # how a canvas is shown is not the point here
    kwargs = kwargs if isinstance(kwargs, str) else repr(kwargs or {})
    shown = f'{str(task).rpartition(".")[2]}({args[:60]})'
    return shown + (f' {kwargs[:40]}' if kwargs != '{}' and 'task' not in kwargs else '')


def signatures(value: Any) -> Iterator[Record]:
    """All signatures in `value`, each before those in it."""
    if isinstance(value, dict):
        if 'task' in value and 'options' in value:
            yield value
        for key in sorted(value):
            yield from signatures(value[key])
    elif isinstance(value, list):
        for member in value:
            yield from signatures(member)


def trees(results: Any) -> Iterator[Any]:
    """The trees of results in what is told of results."""
    if isinstance(results, dict):
        if 'tree' in results:
            yield results['tree']
        for member in results.values():
            yield from trees(member)
    elif isinstance(results, list):
        for member in results:
            yield from trees(member)


def name_tree(names: Names, tree: Any) -> None:
    """Name the groups of a tree of results (``((id, parent), members)``) that no message told of."""
    if not (isinstance(tree, list) and len(tree) == 2 and isinstance(tree[0], list) and len(tree[0]) == 2):
        return
    (id, parent), members = tree
    for member in members or ():
        name_tree(names, member)
    if members:
        first = members[0][0][0]
        names.add(id, f'results of {names.names.get(first, "??")[1:-1]}')
    if parent:
        name_tree(names, parent)


# -- records -------------------------------------------------------------------------------------------------------

def normalise(record: Record) -> Record:
    """What is compared of a record."""
    names = name_ids(record)
    record = tidy(record)
    seen = [names.apply(told) for told in record['seen']]
    return {
        'notes': names.apply(record['notes']),
        'unfinished': sorted(names.apply(record['unfinished'])),
        'results': shorten_tracebacks(names.apply(record['results'])),
        'messages': by_name(names, record['messages'], lambda message: message['headers'].get('id'), 'headers'),
        'runs': by_name(names, [told for told in record['seen'] if told['kind'] == 'run'],
                        lambda told: told['id'], 'request'),
        'signals': signals_by_task([told for told in seen if told['kind'] == 'signal']),
        'calls': sorted((({key: told[key] for key in ('name', 'args', 'kwargs')}) for told in seen
                         if told['kind'] == 'call'), key=json.dumps),
        'stored': shorten_tracebacks(names.apply(record['stored'])),
    }


def tidy(value: Any) -> Any:
    """`value` without what no two runs have in common: the order of names in a set, and fractions of seconds."""
    if isinstance(value, dict):
        tidied = {key: tidy(member) for key, member in value.items()}
        if isinstance(value.get('stamped_headers'), list):  # Celery makes the list of a set
            tidied['stamped_headers'] = sorted(value['stamped_headers'])
        if value.get('expiration') is not None:  # milliseconds as text in a message, seconds where it is sent
            seconds = value['expiration']
            tidied['expiration'] = round(int(seconds) / 1000 if isinstance(seconds, str) else seconds)
        return tidied
    return [tidy(member) for member in value] if isinstance(value, list) else value


def by_name(names: Names, told: Iterable[Record], id_of: Any, retries_in: str) -> dict[str, list[Any]]:
    """What was told, in lists by the names of the tasks that it is told of, ordered by the number of retries."""
    found: dict[str, list[Any]] = {}
    for one in sorted(told, key=lambda one: one[retries_in].get('retries') or 0):
        found.setdefault(names.names.get(id_of(one), str(id_of(one))), []).append(names.apply(one))
    return found


def signals_by_task(signals: Iterable[Record]) -> dict[str, Any]:
    """The signals of each task in order: those of publishing, and those of running, which other processes tell."""
    found: dict[str, Any] = {}
    for told in signals:
        if told['name'] in PUBLISHING:
            headers = told['values']['headers']
            kind = f'publishing {headers["retries"] + headers["replaced_task_nesting"]} by the {told["where"]}'
        else:
            kind = 'received' if told['retries'] is None else f'run {told["retries"]}'
        found.setdefault(str(told['id']), {}).setdefault(kind, []).append({
            'name': f'{told["name"]}({", ".join(told["keywords"])})', 'in': told['where'], 'sender': told['sender'],
            'values': told['values']})
    return found


def shorten_tracebacks(value: Any) -> Any:
    """`value` with the project's own functions and the last line in place of each traceback."""
    if isinstance(value, dict):
        return {key: shorten(member) if key == 'traceback' and isinstance(member, str) else shorten_tracebacks(member)
                for key, member in value.items()}
    if isinstance(value, list):
        return [shorten_tracebacks(member) for member in value]
    return value


def shorten(traceback: str) -> str:
    """Only what does not depend on the package that ran the task."""
    lines = traceback.strip().splitlines()
    frames = re.findall(r'project\.py", line \d+, in (\w+)', traceback)
    return f'{lines[0] if lines else ""} … in {", ".join(frames)} … {lines[-1] if lines else ""}'


def flatten(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """The leaves of `value` and where they are. Lists of plain values and empty things are leaves."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from flatten(member, f'{path}/{key}' if path else str(key))
    elif isinstance(value, list) and any(isinstance(member, (dict, list)) and member for member in value):
        for place, member in enumerate(value):
            yield from flatten(member, f'{path}/{place}')
    else:
        yield path, value

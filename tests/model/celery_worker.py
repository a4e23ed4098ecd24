"""Celery's workers as processes of the model: what they do to Redis when a header task ends, in their steps.

Written from the keys and steps that docs and tests of ours describe, command by command; `world` knows nothing else of
them. A worker of 5.7 takes a claim in ``.c``, which expires; one before 5.7 has none, and counts parts alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator
from typing import Any

from canvaslite.transport.properties import encode_properties
from tests.model.broker import Message
from tests.model.processes import Died

#: Seconds for which 5.7 claims a chord, and remembers one that is over.
CLAIM, REMEMBERED = 6, 300


def takes(message: Message) -> bool:
    """Whether the model lets a Celery worker have this message: parts only, for what follows is ours to check."""
    return message.task == 'member'


def work(world: Any, version: str) -> Generator[str, Any, None]:
    """A worker of that version, acknowledging late."""
    while True:
        which = (yield 'waiting') or 0
        messages = world.deliverable(takes)
        message = messages[which % len(messages)]
        world.broker.take(message)
        try:
            try:
                yield from _run(world, message, version)
            except Died:
                world._cut_short(None, message)
                # Its parent looks whether a success was stored, and then does nothing more.
                if _stored(world, message) != 'SUCCESS':
                    world.broker.settle(message, requeue=True)
                    continue
            world.broker.settle(message)
        finally:
            if message in world.broker.unacknowledged:
                world._cut_short(None, message)
                world.broker.settle(message, requeue=True)


def _stored(world: Any, message: Message) -> str:
    found = world.lab.store.client.get(f'celery-task-meta-{message.id}')
    return 'PENDING' if found is None else str(json.loads(found)['status'])


def _run(world: Any, message: Message, version: str) -> Generator[str, Any, None]:
    yield 'code'
    run = world.run_member(message.id, message.content[0][0])
    if run.value is None:
        state, result = 'FAILURE', {'exc_type': 'ValueError', 'exc_message': [f'{run.slot} fails'],
                                    'exc_module': 'builtins'}
    else:
        state, result = 'SUCCESS', run.value
    client, group = world.lab.store.client, message.headers['group']
    yield 'store'
    if _stored(world, message) != 'SUCCESS':
        client.set(f'celery-task-meta-{message.id}', ex=86400, value=json.dumps({
            'status': state, 'result': result, 'traceback': None, 'children': [],
            'date_done': world.lab._now().isoformat(), 'task_id': message.id}))
    yield 'part'
    keys = [f'celery-taskset-meta-{group}.{letter}' for letter in 'jtsdc']
    part = json.dumps([1, message.id, state, result])
    if version == '5.7':
        yield from _join_with_claim(world, client, message, keys, part)
    else:
        yield from _join_by_count(world, client, message, keys, part)
    run.ended = world.steps
    yield 'acknowledge'


def _total(client: Any, keys: list[str]) -> int | None:
    size = client.get(keys[2])
    return None if size is None else int(size) + int(client.get(keys[1]) or 0)


def _join_with_claim(world: Any, client: Any, message: Message, keys: list[str], part: str
                     ) -> Generator[str, Any, None]:
    parts, _, size, seen, claim = keys
    place, token = message.headers['group_index'], uuid.uuid4().hex
    if client.get(claim) == b'done':
        return
    if client.sadd(seen, f'{message.id}:{place}'):
        client.zadd(parts, {part: place})
    for key in keys[:4]:
        client.expire(key, 86400)
    if client.zcard(parts) != _total(client, keys) or not client.set(claim, token, nx=True, ex=CLAIM):
        return
    yield 'read'
    found = client.zrange(parts, 0, -1)
    yield 'extend'
    if client.get(claim) == token.encode():
        client.expire(claim, 5 * CLAIM)
    elif client.exists(claim) or not client.exists(size):
        return
    else:
        client.set(claim, token, ex=5 * CLAIM)
    yield 'publish'
    _publish_or_fail(world, message, found, True)
    yield 'clean up'
    if client.get(claim) == token.encode():
        client.delete(*keys[:4])
        client.set(claim, 'done', ex=REMEMBERED)


def _join_by_count(world: Any, client: Any, message: Message, keys: list[str], part: str
                   ) -> Generator[str, Any, None]:
    client.zadd(keys[0], {part: message.headers['group_index']})
    for key in keys[:3]:
        client.expire(key, 86400)
    if client.zcard(keys[0]) != _total(client, keys):
        return
    yield 'read'
    found = client.zrange(keys[0], 0, -1)
    yield 'publish'
    _publish_or_fail(world, message, found, False)
    yield 'clean up'
    client.delete(*keys[:3])


def _publish_or_fail(world: Any, message: Message, found: list[bytes], claimed: bool) -> None:
    body = message.content[2]['chord']
    parts = [json.loads(part) for part in found]
    options = body['options']
    if any(state != 'SUCCESS' for _, _, state, _ in parts):
        # (Its errbacks are called, and its body fails: with ours these are one step more.)
        failure = {'exc_type': 'ChordError', 'exc_message': ['Dependency raised ValueError'],
                   'exc_module': 'celery.exceptions'}
        world.lab.store.client.set(f'celery-task-meta-{options["task_id"]}', ex=86400, value=json.dumps({
            'status': 'FAILURE', 'result': failure, 'traceback': None, 'children': [], 'task_id': options['task_id']}))
        task, task_id, args = 'told', f'{options["task_id"]}-told', [options['task_id']]
    else:
        task, task_id, args = body['task'], options['task_id'], [[result for _, _, _, result in parts]]
    headers = {'id': task_id, 'task': task, 'lang': 'py', 'retries': 0, 'root_id': task_id, 'group': options.get(
        'group_id') if options.get('chord') else None}
    embed = {'callbacks': None, 'errbacks': options.get('link_error'), 'chain': None, 'chord': options.get('chord')}
    properties = encode_properties(headers, content_type='application/json', content_encoding='utf-8')
    sent = Message(properties, json.dumps([args, {}, embed]).encode())
    sent.unsure = not claimed
    world.broker.arrive([sent])

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError

from canvaslite import Celery, states
from canvaslite.backends.base import BaseBackend
from canvaslite.backends.codec import UnpickleableExceptionWrapper
from canvaslite.context import Context
from canvaslite.exceptions import ChordError, ImproperlyConfigured, NotRegistered, SecurityError, TimeoutError


class Outer:
    class Inner(Exception):
        """An exception with a dotted name."""


class Awkward(Exception):
    """An exception that cannot be made from its own arguments."""

    def __init__(self, one, two):
        super().__init__(one)


def make_store(**settings):
    app = Celery('codec', set_as_current=False)
    app.conf.update(settings)
    return BaseBackend(app)


def through_the_store(store, exc):
    stored = json.loads(json.dumps(store.prepare_exception(exc)))
    return stored, store.exception_to_python(stored)


def test_a_result_is_stored_as_celery_stores_it(app):
    request = Context(id='child', group='g', parent_id='p')
    app.backend.store_result('child', {'x': 1}, states.SUCCESS, request=request)
    meta = app.backend._get_result_meta({'x': 1}, states.SUCCESS, None, request)
    assert list(meta) == ['status', 'result', 'traceback', 'children', 'date_done', 'group_id', 'parent_id']
    assert meta['children'] == [] and datetime.fromisoformat(meta['date_done']).tzinfo is not None
    assert app.backend._get_result_meta(None, states.RETRY, None, None)['date_done'] is None


def test_an_exception_is_stored_by_name_and_arguments():
    stored, rebuilt = through_the_store(make_store(), KeyError('foo', 1))
    assert stored == {'exc_type': 'KeyError', 'exc_message': ['foo', 1], 'exc_module': 'builtins'}
    assert type(rebuilt) is KeyError and rebuilt.args == ('foo', 1)


@pytest.mark.parametrize('exc', [ChordError('x'), TimeoutError('x'), NotRegistered('x')])
def test_our_own_exceptions_are_stored_as_celerys_and_read_back_as_ours(exc):
    stored, rebuilt = through_the_store(make_store(), exc)
    assert stored['exc_module'] == 'celery.exceptions'
    assert type(rebuilt) is type(exc) and rebuilt.args == exc.args


def test_an_exception_class_inside_a_class_is_found_again():
    stored, rebuilt = through_the_store(make_store(), Outer.Inner('x'))
    assert stored['exc_type'] == 'Outer.Inner' and type(rebuilt) is Outer.Inner


def test_an_exception_class_that_is_not_loaded_here_is_made_up():
    rebuilt = make_store().exception_to_python(
        {'exc_type': 'Unheard', 'exc_message': ['of'], 'exc_module': 'not.imported.here'})
    assert type(rebuilt).__name__ == 'Unheard' and isinstance(rebuilt, Exception) and rebuilt.args == ('of',)
    assert type(rebuilt).__module__ == 'celery.exceptions'


@pytest.mark.parametrize(('module', 'name'), [
    ('builtins', 'SystemExit'), ('builtins', 'KeyboardInterrupt'), ('celery.exceptions', 'WorkerShutdown')])
def test_an_exception_that_would_end_a_process_is_made_up(module, name):
    rebuilt = make_store().exception_to_python({'exc_type': name, 'exc_message': [7], 'exc_module': module})
    assert isinstance(rebuilt, Exception) and type(rebuilt).__name__ == name and rebuilt.args == (7,)


def test_what_cannot_be_written_of_an_exception_is_written_as_its_repr():
    stored, _ = through_the_store(make_store(), ValueError(1, object))
    assert stored['exc_message'][0] == 1 and 'object' in stored['exc_message'][1]


def test_an_exception_that_cannot_be_made_again_is_described():
    _, rebuilt = through_the_store(make_store(), Awkward(1, 2))
    assert type(rebuilt) is Exception and 'Awkward' in str(rebuilt)


@pytest.mark.parametrize(('module', 'name'), [('os', 'system'), ('builtins', 'eval'), ('builtins', 'dict')])
def test_nothing_but_an_exception_class_is_ever_called(module, name):
    with pytest.raises(SecurityError, match=name):
        make_store().exception_to_python({'exc_type': name, 'exc_message': 'false', 'exc_module': module})
    assert os.system  # it is loaded, and was not called


def test_what_describes_no_exception_is_refused():
    store = make_store()
    assert store.exception_to_python(None) is None
    with pytest.raises(ValueError, match='exc_type'):
        store.exception_to_python({'exc_message': 'x'})
    with pytest.raises(TypeError):
        store.exception_to_python(42)


def test_pickle_keeps_the_exception_or_what_comes_nearest():
    store = make_store(result_serializer='pickle', accept_content=['pickle'])
    error = KeyError('x')
    assert store.prepare_exception(error) is error
    wrapped = store.prepare_exception(Awkward(1, lambda: None))
    assert isinstance(wrapped, UnpickleableExceptionWrapper)
    assert type(store.exception_to_python(wrapped)).__name__ == 'Awkward'


@pytest.mark.parametrize('serializer', ['json', 'pickle'])
def test_values_come_back_as_they_were(serializer):
    store = make_store(result_serializer=serializer, accept_content=['json', 'pickle'])
    for value in (None, 0, 'ü', [1, {'a': None}], {'nested': {'__type__': 'not ours'}}):
        assert store.decode(store.encode({'result': value})) == {'result': value}


def test_json_keeps_the_types_that_kombu_keeps():
    store = make_store()
    value = [uuid.uuid4(), Decimal('1.5'), datetime(2026, 1, 2, tzinfo=timezone.utc), b'bytes']
    assert store.decode(store.encode(value)) == value
    assert store.decode(store.encode(value).encode()) == value


def test_what_cannot_be_encoded_is_an_encode_error():
    with pytest.raises(EncodeError):
        make_store().encode(object())
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError):
        make_store().encode(deep)


@pytest.mark.parametrize('payload', ['{', b'{"a": ', '{"__type__": "nonsense", "__value__": 1}'])
def test_what_cannot_be_decoded_is_a_decode_error(payload):
    with pytest.raises(DecodeError):
        make_store().decode(payload)


def test_content_that_is_not_accepted_is_refused():
    with pytest.raises(ContentDisallowed):
        make_store(accept_content=['pickle']).decode('{"status": "SUCCESS"}')


def test_an_unknown_serializer_is_named():
    with pytest.raises(ImproperlyConfigured, match='result_serializer'):
        make_store(result_serializer='nonsense')


def test_lifetimes_are_seconds():
    store = make_store(result_expires=timedelta(minutes=2))
    assert store.expires == 120.0
    assert store.prepare_expires(3.7, int) == 3
    assert store.prepare_expires(None, int) == 120

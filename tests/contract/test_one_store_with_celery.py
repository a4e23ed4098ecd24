"""One store for Celery and canvaslite: either side reads what the other one stored."""

from __future__ import annotations

import importlib
import logging
import pickle
import uuid

import pytest
import sqlalchemy as sa
from kombu.exceptions import ContentDisallowed

import canvaslite.exceptions
from canvaslite import states
from canvaslite.context import Context
from canvaslite.exceptions import SecurityError
from canvaslite.result import GroupResult

from .conftest import SHARED, on

celery = importlib.import_module('celery')
SQL = ('sqlite', 'postgresql', 'mysql')

pytestmark = pytest.mark.filterwarnings('ignore:Call to deprecated setex')  # by Celery


@pytest.fixture
def theirs(app):
    """An app of real Celery on the same store."""
    backend = app.given['result_backend']
    if app.store == 'mysql':
        backend = backend.replace('mysql://', 'mysql+pymysql://')
    if app.store == 'postgresql':
        backend = backend.replace('postgresql://', 'postgresql+psycopg2://')
    settings = {name: value for name, value in app.given.items()
                if name.startswith('result_') and name != 'result_backend'}
    return celery.Celery('theirs', broker='memory://', backend=backend, set_as_current=False, changes=settings)


def new_id():
    return str(uuid.uuid4())


@on(SHARED)
@pytest.mark.parametrize('value', [None, 1.5, 'Größe', {'a': [1, None]}, [[1], {}]], ids=repr)
def test_a_result_is_read_by_the_other_side(app, theirs, value):
    ours_stored, theirs_stored = new_id(), new_id()

    app.backend.mark_as_done(ours_stored, value)
    theirs.backend.mark_as_done(theirs_stored, value)

    assert theirs.AsyncResult(ours_stored).get(timeout=5) == value
    assert app.AsyncResult(theirs_stored).get(timeout=5) == value
    assert app.AsyncResult(theirs_stored).date_done is not None
    assert theirs.AsyncResult(ours_stored).date_done is not None


@on(SHARED)
def test_an_exception_is_read_by_the_other_side(app, theirs):
    plain, own, back = new_id(), new_id(), new_id()

    app.backend.mark_as_failure(plain, ValueError('wrong', 1), 'Traceback: …')
    app.backend.mark_as_failure(own, canvaslite.exceptions.ChordError('header'))
    theirs.backend.mark_as_failure(back, celery.exceptions.MaxRetriesExceededError('enough'), traceback='theirs')

    with pytest.raises(ValueError) as caught:
        theirs.AsyncResult(plain).get(timeout=5)
    assert caught.value.args == ('wrong', 1)
    assert theirs.AsyncResult(plain).traceback == 'Traceback: …'
    with pytest.raises(celery.exceptions.ChordError, match='header'):
        theirs.AsyncResult(own).get(timeout=5)
    with pytest.raises(canvaslite.exceptions.MaxRetriesExceededError, match='enough'):
        app.AsyncResult(back).get(timeout=5)


@on(SHARED)
def test_a_success_is_final_whoever_comes_later(app, theirs):
    ours_first, theirs_first = new_id(), new_id()

    app.backend.mark_as_done(ours_first, 'ours')
    theirs.backend.mark_as_failure(ours_first, ValueError('theirs'))
    theirs.backend.mark_as_done(theirs_first, 'theirs')
    app.backend.mark_as_failure(theirs_first, ValueError('ours'))

    assert theirs.AsyncResult(ours_first).get(timeout=5) == 'ours'
    assert app.AsyncResult(theirs_first).get(timeout=5) == 'theirs'


@on(SHARED)
def test_states_and_children_are_read_by_the_other_side(app, theirs):
    retried, started, parent, child = new_id(), new_id(), new_id(), new_id()
    request = Context(id=parent)
    request.children.append(app.AsyncResult(child))

    app.backend.mark_as_retry(retried, ValueError('again'))
    theirs.backend.store_result(started, {'pid': 1}, states.STARTED)
    app.backend.mark_as_done(parent, 1, request)

    assert theirs.AsyncResult(retried).state == states.RETRY
    assert app.AsyncResult(started).info == {'pid': 1}
    assert [result.id for result in theirs.AsyncResult(parent).children] == [child]


@on(SHARED)
def test_a_group_is_restored_by_the_other_side(app, theirs):
    group = GroupResult(new_id(), [app.AsyncResult(new_id()) for _ in range(3)], app=app)
    their_group = celery.result.GroupResult(new_id(), [theirs.AsyncResult(new_id()) for _ in range(3)], app=theirs)

    app.backend.save_group(group.id, group)
    their_group.save(backend=theirs.backend)

    assert theirs.GroupResult.restore(group.id).as_tuple() == group.as_tuple()
    assert app.backend.restore_group(their_group.id).as_tuple() == their_group.as_tuple()


@on(SHARED, result_extended=True)
def test_an_extended_result_is_read_by_the_other_side(app, theirs):
    ours_stored, theirs_stored = new_id(), new_id()
    said = {'task': 'proj.add', 'args': [1], 'kwargs': {'z': 3}, 'hostname': 'node@host', 'retries': 2,
            'delivery_info': {'routing_key': 'fast'}, 'stamped_headers': ['customer'], 'stamps': {'customer': 'A'}}

    app.backend.mark_as_done(ours_stored, 3, Context(id=ours_stored, **said))
    theirs.backend.mark_as_done(theirs_stored, 3, celery.app.task.Context(id=theirs_stored, **said))

    for result in (theirs.AsyncResult(ours_stored), app.AsyncResult(theirs_stored)):
        assert (result.name, result.args, result.kwargs) == ('proj.add', [1], {'z': 3})
        assert (result.worker, result.retries, result.queue) == ('node@host', 2, 'fast')
    assert theirs.backend.get_task_meta(ours_stored)['customer'] == 'A'
    assert app.backend.get_task_meta(theirs_stored)['customer'] == 'A'


@on(SHARED, result_serializer='pickle', result_accept_content=['pickle'])
def test_pickled_results_are_read_by_the_other_side(app, theirs):
    ours_stored, theirs_stored, failed = new_id(), new_id(), new_id()

    app.backend.mark_as_done(ours_stored, {1, 2})
    theirs.backend.mark_as_done(theirs_stored, {1, 2})
    theirs.backend.mark_as_failure(failed, KeyError('k'))

    assert theirs.AsyncResult(ours_stored).get(timeout=5) == {1, 2}
    assert app.AsyncResult(theirs_stored).get(timeout=5) == {1, 2}
    with pytest.raises(KeyError):
        app.AsyncResult(failed).get(timeout=5)


@on(SQL)
def test_the_tables_that_we_make_are_celery_s(app, theirs):
    ours = app.backend.database.engine
    described = describe(ours)
    with ours.begin() as connection:
        app.backend.tables.metadata.drop_all(connection)

    theirs.backend.store_result('x', 1, states.SUCCESS)

    expected = describe(ours)
    if app.store == 'mysql':  # BLOB ends at 64 kB; both hold bytes
        widened = {'LONGBLOB': 'BLOB', 'LONGTEXT': 'TEXT'}
        described = {table: {name: widened.get(kind, kind) for name, kind in columns.items()}
                     for table, columns in described.items()}
    assert len(expected) == 2
    assert {table: described[table] for table in expected} == expected


def describe(engine):
    inspector = sa.inspect(engine)
    return {table: {**{column['name']: str(column['type']).split(' ')[0] for column in inspector.get_columns(table)},
                    **{f'index {index["name"]}': str(index['column_names']) for index in inspector.get_indexes(table)}}
            for table in inspector.get_table_names() if table.startswith('celery')}


@on(SQL)
def test_a_table_of_an_older_celery_gets_the_columns_that_it_lacks(app, make_app):
    with app.backend.database.engine.begin() as connection:
        for column in ('children', 'stamps', 'queue'):
            connection.execute(sa.text(f'ALTER TABLE celery_taskmeta DROP COLUMN {column}'))

    parent = new_id()
    request = Context(id=parent)
    request.children.append(app.AsyncResult(new_id()))
    later = make_app()
    later.backend.mark_as_done(parent, 1, request)

    assert make_app().AsyncResult(parent).children == request.children


@on(SQL)
def test_a_pickled_row_is_not_read_unless_pickle_is_accepted(app):
    task_id = new_id()
    put(app, task_id, pickle.dumps({'a': 1}), states.SUCCESS)

    with pytest.raises(ContentDisallowed, match='result_accept_content'):
        app.AsyncResult(task_id).get(timeout=5)


@on(SQL, result_accept_content=['json', 'pickle'])
@pytest.mark.parametrize('value', [{'a': (1, 2)}, ValueError('wrong'), {1, 2}, None], ids=repr)
def test_rows_that_celery_pickled_before_5_7_are_read(app, value, caplog):
    task_id = new_id()
    is_error = isinstance(value, Exception)
    put(app, task_id, pickle.dumps(value), states.FAILURE if is_error else states.SUCCESS)

    with caplog.at_level(logging.WARNING):
        found = app.AsyncResult(task_id).result

    assert (type(found), getattr(found, 'args', found)) == (type(value), getattr(value, 'args', value))


@on(SQL, result_accept_content=['json', 'pickle'])
def test_a_pickle_that_would_run_something_is_refused(app, tmp_path):
    import os

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harm'),)

    task_id = new_id()
    put(app, task_id, pickle.dumps(Harmful()), states.SUCCESS)

    with pytest.raises(SecurityError, match='result_serializer'):
        app.AsyncResult(task_id).get(timeout=5)
    assert not (tmp_path / 'harm').exists()


def put(app, task_id, payload, status):
    with app.backend.database.engine.begin() as connection:
        row = {'task_id': task_id, 'status': status, 'result': payload}
        connection.execute(sa.insert(app.backend.tables.task), row)

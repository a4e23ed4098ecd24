"""The intended differences, as the check finds them: any other fails it, and one that it finds no more does too."""

from __future__ import annotations

from typing import NamedTuple


class Intended(NamedTuple):
    """One intended difference: where it shows (patterns as in a shell), and the row of ``docs/differences.md``.

    Of several that fit, the first one counts.
    """

    #: What Celery does, and what canvaslite does instead.
    what: str
    #: Beginning of the row in ``docs/differences.md`` that gives the reason.
    row: str
    paths: tuple[str, ...]
    scenarios: tuple[str, ...] = ('*',)
    #: Patterns of what either side has there.
    celery: str = '*'
    canvaslite: str = '*'


ALL = ('*',)
NOTHING = '(nothing)'

DIFFERENCES: tuple[Intended, ...] = (
    # -- everywhere ------------------------------------------------------------------------------------------------
    Intended('`request.properties` holds the headers once more; it does not', '`task.request.properties`',
             ('runs/*/request/properties/application_headers',), canvaslite=NOTHING),
    Intended('`collect` and `graph` go downwards from the result; over the whole run', '`collect()`, `graph`',
             ('results/*/collect*', 'results/*/graph*', 'notes/iterdeps*', 'notes/intermediate*', 'notes/leaf*')),
    Intended('nothing is known of a canvas but its results; a record of it is kept', 'records of canvases',
             ('stored/celery-canvas-*',), celery=NOTHING),
    Intended('the broker drops a task of a canvas that expires; a worker records that',
             'a task of a canvas that expires', ('*/properties/expiration',), canvaslite=NOTHING),
    Intended('`reply_to` of what replaces a task is the worker\'s; the caller\'s', '`reply_to` of what replaces',
             ('*/reply_to',), celery="'<id>'", canvaslite="'<the sender>'"),
    Intended('the end of a task that is replaced is an Ignore; a Replaced, which is one', '`reply_to` of what replaces',
             ('signals/*/values/retval/error',), celery="'Ignore'", canvaslite="'Replaced'"),
    Intended('the body of a chord does not say the size of the chord; it does', '`chord_size` in the body',
             ('*/chord_size',), celery=NOTHING),
    Intended('options that are None or concern the sender go along; they stay at home', 'options that say nothing',
             ('*/options/priority', '*/options/add_to_parent', '*/options/chord', *(
                 f'signals/*/properties/{name}' for name in (
                     'immediate', 'mandatory', 'priority', 'argsrepr', 'kwargsrepr', 'origin'))), canvaslite=NOTHING),
    Intended('"The operation timed out."; says after how many seconds', 'texts of errors',
             ('*/message',), celery="'The operation timed out.'", canvaslite="'The operation timed out after * s.'"),
    Intended('a chord that failed leaves its keys, and a claim, until they expire; it says that it is done',
             'keys of a chord on Redis',
             ('stored/celery-taskset-meta-*.[cdjs]/*',)),
    Intended('a chord\'s body may run twice; copies of it have numbers, and one runs', '`canvaslite_attempt`',
             ('*/headers/canvaslite_attempt', 'runs/*/request/headers', 'stored/celery-task-meta-*.run/*')),
    Intended('the body of a chord whose header cannot be sent stays PENDING; it is revoked', 'keys of a chord on Redis',
             ('stored/celery-task-meta-*',), ('unserializable arguments',), celery=NOTHING),
    Intended('the error of a body has no group; it has the same fields as its success', 'keys of a chord on Redis',
             ('stored/celery-task-meta-*/value/group_id',), celery=NOTHING),
    Intended('the errback of a chord gets no traceback; it gets that of the member', 'errbacks of a chord',
             ('calls/*/args/3',), celery="'NoneType'", canvaslite="'str'"),
    Intended('errbacks and several links are wrapped in a group; sent one by one', 'several links of one task',
             ('messages/*/headers/group', 'messages/*/headers/group_index', 'runs/*/request/group',
              'runs/*/request/group_index', 'signals/*/headers/group', 'signals/*/headers/group_index',
              'stored/*/value/group_id', 'messages/<linked*/argsrepr', 'runs/<linked*/argsrepr',
              'signals/<linked*/argsrepr', 'results/*', 'stored/*/value/children*'),
             ('*link*', '*errback*', 'replaced with links')),
    Intended('a group of tuples shows, and is, a tuple; it is a list', '`group(a, b).tasks`',
             ('*argsrepr', 'notes/*'),
             ('representations', 'composed by pipes', 'canvases sent as tasks', 'replaced by *',
              'a group sent by a task', 'a group without a parent'), celery='*((*'),
    Intended('`celery.chain` shows its steps as a tuple; as a list', '`group(a, b).tasks`', ('*argsrepr',),
             celery="*'tasks': (...)*", canvaslite="*'tasks': [[]...]*"),
    Intended('steps behind a chord are its body\'s or not, by their spelling; beside it', 'what follows a chord',
             ('notes/chord*',), ('composed by pipes',)),
    Intended('a generator is shown as it is seen so far; as a list', '`group(a, b).tasks`', ('notes/generators',),
             ('representations',), celery='*_regen*'),
    Intended('no priority with an explicit queue; 0', '`priority=None` with an explicit queue',
             ('messages/*/properties/priority', 'runs/*/request/properties/priority',
              'runs/*/request/delivery_info/priority'),
             ('options of messages', 'a queue that may not be made'), canvaslite='0'),
    # -- chains ------------------------------------------------------------------------------------------------------
    Intended('a chain forgets partial arguments that it was cloned with; its first step has them',
             'partial arguments and options of a chain', ALL, ('a chain cloned with partial arguments',)),
    Intended('a canvas forgets partial arguments that it was cloned with, and a copy has another class; it has both',
             'partial arguments and options of a chain', ('notes/*',), ('copies',)),
    Intended('a chain loses its options in another chain, and its parent; its first step has them',
             'partial arguments and options of a chain', ('*/priority', '*parent_id'),
             ('chains run with options', 'a chain with its own root')),
    Intended('members of a group behind a failed step stay PENDING; they fail', 'a group behind a failed step', ALL,
             ('a failing chain before a group',)),
    Intended('a failure is stored under the id of a chord\'s header; under those of its tasks',
             'a group behind a failed step', ALL, ('a failing chain before a chord',)),
    Intended('what stands between a header and the end of its body is no parent of the result; it is',
             'parents of the result of a chord', ('results/*',),
             ('a chain through two groups', 'a chord as a body', 'a chain as a body', 'a failing chord before a task',
              'chords in three levels')),
    Intended('the result of a chord that ran here has no parent; its header, as on a worker',
             'parents of the result of a chord', ('notes/*/parent*',),
             ('applied with partial arguments', 'applied failures', 'always eager', 'always eager links')),
    Intended('the tail behind a failed chord stays PENDING; it fails', 'a group behind a failed step',
             ('stored/celery-task-meta-*',), ('a failing chord before a task',), NOTHING),
    Intended('a canvas that was sent has ids, and sent again it has them again; each sending has its own',
             'sending a canvas twice', ALL, ('a chain sent twice',)),
    Intended('an empty group between two tasks makes a chord of nothing; it is nothing',
             'an empty group inside a chain', ALL, ('a chain with an empty group',)),
    Intended('freezing an empty chain is an IndexError; gives None', 'texts of errors', ('notes/empty chain/*',),
             ('frozen canvases',)),
    Intended('sending a chord without a body is an AttributeError of its None; a TypeError that says what lacks',
             'texts of errors', ('notes/sent/*',), ('a chord without a body',)),
    Intended('an immutable chain or chord gets the result all the same; it does not', 'immutable composites', ALL,
             ('immutable canvases sent',)),
    Intended('steps behind an expired or revoked one stay PENDING; they are revoked',
             'a revoked or expired step of a chain', ALL, ('an expired step', 'revoked tasks')),
    Intended('a task that a worker ends outside its code has no list of children; an empty one',
             'where failures outside a task\'s code', ('*/children',), celery='None', canvaslite='[[]]'),
    # -- groups and chords -------------------------------------------------------------------------------------------
    Intended('a group in a header comes in reverse; in order', 'order of a group', ALL, ('a group in a header',)),
    Intended('a group in a group begins to count anew; each member has its own place', 'order of a group',
             ('*group_index',), ('a group of groups',)),
    Intended('a generated header loses the shape of its canvases; it keeps it', 'a header given as a generator', ALL,
             ('a chain into a group in a header by a generator',)),
    Intended('a group of a dict is an AttributeError; a group of that signature', 'texts of errors', ALL,
             ('a group of a dict',)),
    Intended('chunks as data are a plain task after a round trip; they stay chunks', '`task.chunks(...)`',
             ('notes/*chunks*', 'results/chunks by *', '*/<chunks()>/*', '*-<chunks()>/*', '*starmap()*'),
             ('canvases as data', 'attributes', 'round trips by *', 'copies', 'immutability of canvases', 'mapping',
              'sent after a round trip')),
    Intended('chunks in a chain fail; stand for their group', '`task.chunks(...)`', ALL, ('chunks before a task',)),
    Intended('chunks.apply() sends its jobs; runs them', '`chunks.apply()`', ALL, ('applied canvases',)),
    Intended('a canvas that cannot be sent as a whole is sent in part; not at all', 'a canvas of which one task',
             ALL, ('a chord with a wrong member',)),
    # -- ends that nobody hears of -----------------------------------------------------------------------------------
    Intended('a chord stays PENDING when its header has an unknown or rejecting task, or a chord that fails; it fails',
             'an unknown task, `Reject` or a failing chord in a header', ALL,
             ('a chord in a header that fails', 'a header with an unknown task', 'a header with a rejecting task',
              'an errback also of a nested header')),
    Intended('steps behind an unknown task stay PENDING; they fail',
             'an unknown task, `Reject` or a failing chord in a header', ALL, ('an unknown step',)),
    Intended('errbacks of an unknown task are not called; they are',
             'an unknown task, `Reject` or a failing chord in a header', ('calls*',),
             ('an unknown task with an errback',)),
    Intended('`task_unknown` has a KeyError; a NotRegistered, which is one',
             'an unknown task, `Reject` or a failing chord in a header', ('signals/*/received/*/exc/*',),
             ('an unknown task*', 'an unknown errback'), celery="'KeyError'", canvaslite="'NotRegistered'"),
    Intended('the error of an unknown task is stored without its parent; with it',
             'an unknown task, `Reject` or a failing chord in a header', ('stored/*/value/parent_id',),
             ('an unknown errback',), celery=NOTHING),
    Intended('`task_failure` of a rejected task comes after its end, without a traceback; before it, with one',
             'an unknown task, `Reject` or a failing chord in a header', (
                 '*rejecting*', 'signals/<hooked(\'reject\')>/*', 'results/*/traceback', 'stored/*/traceback'),
             ('a rejected task', 'a rejected step', 'hooks')),
    Intended('an errback with an option, or bound, never runs, and the latter breaks the recording; both run',
             '`errback(task_id, note=None)`', ALL, ('a bound errback', 'an errback with a default')),
    Intended('what depends on an ignored task never ends; it fails', 'what depends on a task that raises `Ignore`', ALL,
             ('a header with an ignoring task', 'an ignored step')),
    Intended('a link goes to the signature that the canvas was made of; to a copy', '`link`, `link_error`',
             ('notes/task/options*',), ('pipes leave their operands alone',)),
    Intended('waiting in a task is refused; with advice', 'texts of errors', ALL, ('waiting in a task',)),
    Intended('an errback of a group body gets the member\'s error; the ChordError, as the body',
             'errbacks of a chord', ALL, ('an errback of a group body',)),
    Intended('steps of an errback that is a chain have no root yet; that of the failed task',
             'options that say nothing', ('*/root_id', '*/options/chord*', '*/header/options/*'),
             ('a canvas as an errback', 'replaced by a chain into a group')),
    Intended('an error that cannot be pickled is stored in a wrapper; under its own name',
             'exceptions that cannot be pickled', ALL, ('an unpicklable error',)),
    Intended('an encoder\'s error is stored by its representation; by its text', 'texts of errors',
             ('results/*/message', 'stored/*/exc_message'), ('an unserializable result',)),
    # -- errors where something is asked for -------------------------------------------------------------------------
    Intended('the error that comes of it; one that says what was expected', 'texts of errors',
             ('notes/chain*', 'notes/group | number*', 'notes/without an id/message', 'notes/from_dict/*',
              'notes/expires/message', 'notes/priority/*'),
             ('composing with what is no signature', 'results as values', 'an unknown kind of signature',
              'wrong options')),
    Intended('a link that is no signature breaks the run; it fails the task, which is not run', 'texts of errors',
             ('*identity(\'link\')*', 'unfinished'), ('wrong options',)),
    # -- stamps, eager runs ------------------------------------------------------------------------------------------
    Intended('`stamp` of a canvas returns None, and without a visitor leaves the body; returns it, stamps all',
             '`stamp()` of a chain', ALL, ('stamps without a visitor',)),
    Intended('a stamp that is not given is a KeyError; None', '`stamp()` of a chain', ALL, ('stamps by options',)),
    Intended('of an eager run that raises `task_postrun` knows no state, and the error is internal; it does, it is not',
             '`task_postrun` of an eager run',
             ('signals/*/values/state', 'signals/*/values/retval*', 'signals/*/run 0/2/*'),
             ('applied failures', 'always eager failures')),
)

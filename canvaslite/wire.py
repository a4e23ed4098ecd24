"""Every name on which Celery and canvaslite processes must agree. Nothing outside this file spells one of them."""

from __future__ import annotations

# --- task messages -----------------------------------------------------------
#: Value of the ``lang`` header: what marks a message as protocol 2.
LANG = 'py'

#: Headers of a protocol 2 task message, in the order in which we write them: the
#: five that a worker's parent decides on come first, so that it can stop reading there.
DECISIVE_HEADERS = ('id', 'task', 'eta', 'expires', 'timelimit')
TASK_HEADERS = (
    *DECISIVE_HEADERS, 'lang', 'shadow', 'group', 'group_index', 'retries', 'root_id', 'parent_id',
    'argsrepr', 'kwargsrepr', 'origin', 'ignore_result', 'replaced_task_nesting', 'stamped_headers', 'stamps',
)

#: The serializer of signed messages and its content type; header with the signature of all of the message but its way.
AUTH, AUTH_TYPE, SIGNATURE_HEADER = 'auth', 'application/data', 'canvaslite_signature'
#: Header of a signed command of remote control: when it was sent, and what no other has.
SENT_HEADER = 'canvaslite_sent'

# --- built-in tasks ------------------------------------------------------------
BACKEND_CLEANUP = 'celery.backend_cleanup'
CHORD_UNLOCK = 'celery.chord_unlock'
ACCUMULATE = 'celery.accumulate'
MAP = 'celery.map'
STARMAP = 'celery.starmap'
CHUNKS = 'celery.chunks'
GROUP = 'celery.group'
CHAIN = 'celery.chain'
CHORD = 'celery.chord'

# --- queues and exchanges --------------------------------------------------------
#: Exchange of the queues that belong to one worker each (`worker_direct`), and what follows its name in theirs.
WORKER_DIRECT_EXCHANGE, WORKER_DIRECT_SUFFIX = 'C.dq2', '.dq2'
#: What precedes a chord's id in the name of the queue that holds its parts, with results by rpc.
CHORD_QUEUE_PREFIX = 'canvaslite-chord-'
#: Where such chords wait to be looked after, and where those come from there whose time it is.
CHORDS_WATCHED_QUEUE, CHORDS_DUE_QUEUE = 'canvaslite-chords-watched', 'canvaslite-chords-due'

#: What precedes a name in that of the queue of marks (`execution.losses`), with results by rpc.
MARKS_QUEUE_PREFIX = 'canvaslite-marks-'

#: Queues of a group with ``max_concurrency``, and the header that names the window in the last task of a member.
WINDOW_PREFIX, WINDOW_HEADER = 'canvaslite.window.', 'canvaslite_window'

#: Exchange and queue of one bit of native delayed delivery (the names are kombu's), where it delivers to, and what
#: precedes both in those to which our workers hand tasks with a far ETA.
DELAY_LEVEL, DELAY_DELIVERY, OWN_DELAY_PREFIX = 'celery_delayed_{}', 'celery_delayed_delivery', 'canvaslite_'
#: Header of a task that was handed so: when, the exchange and routing key it came by, whether it may be a copy.
DELAYED_HEADER = 'canvaslite_delayed'

#: Headers of what a chord's join sends: how often it was sent by now; and of what may have been sent before: since when
#: (the sender's clock), if the first copy has no such headers, else true.
ATTEMPT_HEADER, AGAIN_HEADER = 'canvaslite_attempt', 'canvaslite_again'

# --- result store ------------------------------------------------------------------
TASK_KEY_PREFIX = 'celery-task-meta-'
GROUP_KEY_PREFIX = 'celery-taskset-meta-'
TASK_TABLE = 'celery_taskmeta'
GROUP_TABLE = 'celery_tasksetmeta'

#: Suffixes of a chord's keys beside its group key (Celery 5.7's layout).
JOIN_PARTS, JOIN_EXTRA, JOIN_SIZE, JOIN_SEEN, JOIN_CLAIM = '.j', '.t', '.s', '.d', '.c'
#: Of our own: the suffix of what ends a chord without a message of it, and the key of the chords to be looked at again.
JOIN_OUTBOX, JOIN_DUE = '.o', 'canvaslite-join-due'
#: Argument of `CHORD_UNLOCK` that says when the chord fails.
UNLOCK_DEADLINE = 'canvaslite_deadline'
#: What precedes a chord's id in the name of its record, in files and key/value stores.
JOIN_PREFIX = 'canvaslite-join-'
#: What precedes a run's id in the name of its record, and the names of the indexes by which it is found.
CANVAS_PREFIX = 'canvaslite-canvas-'
#: Suffix of a task's key that says which copy of a chord's body runs.
RUN_KEY = '.run'

#: Modules under which our own exceptions are stored, so that Celery can rebuild them.
CELERY_EXCEPTIONS_MODULE = 'celery.exceptions'
OUR_EXCEPTIONS_MODULE = 'canvaslite.exceptions'

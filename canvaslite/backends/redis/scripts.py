"""What the Redis server does in one atomic step.

The keys and values of a chord are Celery 5.7's: ``.j`` the parts (a sorted set, or a list), ``.t`` what was added to
the size ``.s``, ``.d`` the slots seen, ``.c`` the claim or ``done``. Either side may run any part of a chord. Our own
are ``.o``, the outbox (a hash: callback, slots, opened, deadline, sized, attempts), and the due index, a sorted set of
the ids of all chords that are open or claimed, by the second at which somebody must look at them.

The steps of a chord get the keys ``.j .t .s .d .c .o``, the group and the due index, in this order, and first of all
the arguments id, now, seconds to keep the keys (0: for ever), ``1`` if the parts are ordered.
"""

from __future__ import annotations

from hashlib import sha1


class Script:
    """A Lua script, called by its digest."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = sha1(self.text).hexdigest().encode()


#: Keep a result and tell who waits for it, unless one is there already that is final.
#: KEYS: meta. ARGV: payload, seconds to keep it (0: for ever), pattern with which such a one begins ('': not known).
_KEEP = """
local function keep(key, payload, ttl, final)
    if final ~= '' and string.find(redis.call('GETRANGE', key, 0, 24), final) == 1 then return 0 end
    if tonumber(ttl) > 0 then
        redis.call('SETEX', key, ttl, payload)
    else
        redis.call('SET', key, payload)
    end
    redis.call('PUBLISH', key, payload)
    return 1
end
"""

STORE = Script(_KEEP + """
return keep(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
""")

_CHORD = """
local parts, added, size, seen, claim, outbox, group, due = unpack(KEYS)
local id, now, kept, ordered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local function preserve(...)
    if kept > 0 then for _, key in ipairs({...}) do redis.call('EXPIRE', key, kept) end end
end
local function begin(callback, slots, deadline, pause, sized)
    redis.call('HSET', outbox, 'callback', callback, 'slots', slots, 'opened', now, 'deadline', deadline,
               'sized', sized ~= '' and 1 or 0)
    preserve(outbox)
    redis.call('ZADD', due, now + tonumber(pause), id)
end
"""

#: Claim the chord under a token for a lease in seconds, if it is complete, or for a reason whatever is missing.
#: Gives {0, number of missing parts}, {2} when somebody holds it, or {1, number of parts, the parts, the slots if some
#: parts look alike, the saved group, how often it was claimed, the reason if it is not complete}.
_CLAIM = _CHORD + """
local function task_of(part) return string.match(part, '^%[1, ?"([^"]*)"') or part end
-- A Celery before 5.7 adds what a task gave when it ran twice as two parts, and notes no slots.
local function drop_repeated()
    local found, all = {}, redis.call('ZRANGE', parts, 0, -1, 'WITHSCORES')
    for place = 1, #all, 2 do
        local slot = task_of(all[place]) .. ':' .. all[place + 1]
        if found[slot] then redis.call('ZREM', parts, all[place]) end
        found[slot] = true
    end
    return redis.call('ZCARD', parts)
end
local function take(token, lease, reason)
    local expected = redis.call('GET', size)
    local total = tonumber(expected or 0) + tonumber(redis.call('GET', added) or 0)
    local there = redis.call(ordered and 'ZCARD' or 'LLEN', parts)
    local slots = redis.call('SCARD', seen)
    if ordered and there > slots and there >= total then there = drop_repeated() end
    local complete = expected and math.max(there, slots) >= total
    if not complete and reason == '' then return {0, total - slots} end
    if not redis.call('SET', claim, token, 'NX', 'PX', lease * 1000) then return {2} end
    redis.call('ZADD', due, now + lease, id)
    local all = redis.call(ordered and 'ZRANGE' or 'LRANGE', parts, 0, -1)
    return {1, total, all, there ~= slots and redis.call('SMEMBERS', seen) or {}, redis.call('GET', group) or '',
            redis.call('HINCRBY', outbox, 'attempts', 1), complete and '' or reason}
end
"""

#: Count a part, after keeping its result if there is a ninth key; claim the chord if it is complete.
#: ARGV: slot, part, score, token, lease in seconds, callback, its size and the deadline ('': not given), seconds until
#: somebody must look [, payload, ttl, final]. Gives what `take` gives, {3} for a chord that is done, and {4}, without
#: counting, for one of which no outbox is there and no callback was given.
PART = Script(_KEEP + _CLAIM + """
local slot, part, score, callback, pause = ARGV[5], ARGV[6], ARGV[7], ARGV[10], ARGV[13]
if KEYS[9] then keep(KEYS[9], ARGV[14], ARGV[15], ARGV[16]) end
if redis.call('GET', claim) == 'done' then return {3} end
if redis.call('HEXISTS', outbox, 'callback') == 0 then
    if callback == '' then return {4} end
    begin(callback, '', ARGV[12], pause, ARGV[11])
    if ARGV[11] ~= '' then redis.call('SET', size, ARGV[11], 'NX') end
end
local function is_there()
    for _, other in ipairs(ordered and score ~= '+inf' and redis.call('ZRANGEBYSCORE', parts, score, score) or {}) do
        if task_of(other) .. ':' .. score == slot then return true end
    end
end
if redis.call('SADD', seen, slot) == 1 and not is_there() then
    if ordered then redis.call('ZADD', parts, score, part) else redis.call('RPUSH', parts, part) end
end
-- Not at every part: that would be a third of the work.
if kept > 0 and redis.call('TTL', seen) < kept * 0.95 then preserve(parts, added, size, seen, outbox, group) end
return take(ARGV[8], tonumber(ARGV[9]), '')
""")

#: A chord begins: nothing may be left of an earlier run under the same id, unless it is told again.
#: ARGV: '1' if it may have begun already, size ('': not known yet), callback, slots, deadline ('': none), seconds until
#: somebody must look, the group's value ('': nothing is to be saved).
OPEN = Script(_CHORD + """
if ARGV[5] == '1' and redis.call('EXISTS', outbox, claim) > 0 then return 0 end
redis.call('DEL', parts, added, size, seen, claim, outbox)
if ARGV[6] ~= '' then redis.call('SET', size, ARGV[6]) end
begin(ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[6])
if ARGV[11] ~= '' then redis.call('SET', group, ARGV[11]) preserve(group) end
preserve(size)
return 1
""")

#: The chord's size is known. ARGV: size, slots.
RESIZE = Script(_CHORD + """
redis.call('SET', size, ARGV[5])
if redis.call('EXISTS', outbox) == 1 then
    redis.call('HSET', outbox, 'sized', 1)
    if ARGV[6] ~= '' then redis.call('HSET', outbox, 'slots', ARGV[6]) end
end
preserve(size)
return 1
""")

#: Wait for one part more. ARGV: its task ('': not known)
EXTEND = Script(_CHORD + """
if redis.call('GET', claim) == 'done' then return 0 end
if ARGV[5] ~= '' and redis.call('EXISTS', outbox) == 1 and redis.call('HSETNX', outbox, '+' .. ARGV[5], 1) == 0 then
    return 0
end
redis.call('INCR', added)
preserve(added)
return 1
""")

#: Look at a chord again. ARGV: token, lease in seconds, reason ('': only if it is due), seconds to the next look, and
#: parts missing for each of which one more. Gives what `PART` gives, and {5} for a chord whose size is gone.
LOOK = Script(_CLAIM + """
local reason = ARGV[7]
local holder = redis.call('GET', claim)
if holder == 'done' or not holder and redis.call('EXISTS', outbox) == 0 then
    redis.call('ZREM', due, id)
    redis.call('DEL', outbox)
    return {3}
end
if reason == '' and tonumber(redis.call('ZSCORE', due, id) or 'inf') > now then return {2} end
if holder then
    redis.call('ZADD', due, now + math.max(redis.call('PTTL', claim), 0) / 1000, id)
    return {2}
end
local deadline = tonumber(redis.call('HGET', outbox, 'deadline') or '')
if reason == '' and deadline and deadline <= now then reason = 'overdue' end
local answer = take(ARGV[5], tonumber(ARGV[6]), reason)
if answer[1] == 0 then
    redis.call('ZADD', due, now + tonumber(ARGV[8]) + math.max(answer[2], 0) / tonumber(ARGV[9]), id)
    preserve(parts, added, size, seen, outbox, group)
    if redis.call('EXISTS', size) == 0 and redis.call('HGET', outbox, 'sized') == '1' then return {5} end
end
return answer
""")

#: Hold the claim for longer, or take it again if the lease has ended and the chord is still there.
#: ARGV: token, milliseconds.
RENEW = Script(_CHORD + """
local holder = redis.call('GET', claim)
if holder and holder ~= ARGV[5] or redis.call('EXISTS', outbox) == 0 then return 0 end
redis.call('SET', claim, ARGV[5], 'PX', ARGV[6])
redis.call('ZADD', due, now + ARGV[6] / 1000, id)
return 1
""")

#: Give the claim back. ARGV: token, seconds until somebody must look.
RELEASE = Script(_CHORD + """
if redis.call('GET', claim) ~= ARGV[5] then return 0 end
redis.call('ZADD', due, now + tonumber(ARGV[6]), id)
return redis.call('DEL', claim)
""")

#: The chord is done: its tombstone stays, and of one that has failed what its parts gave.
#: ARGV: token, seconds to keep what stays, whether it has failed (1 or 0).
FINISH = Script(_CHORD + """
if redis.call('GET', claim) ~= ARGV[5] then return 0 end
if ARGV[7] == '0' then redis.call('DEL', parts) else redis.call('EXPIRE', parts, ARGV[6]) end
redis.call('DEL', added, size, seen, outbox)
redis.call('ZREM', due, id)
redis.call('SET', claim, 'done', 'EX', ARGV[6])
if redis.call('TTL', group) > tonumber(ARGV[6]) then redis.call('EXPIRE', group, ARGV[6]) end
return 1
""")

FORGET = Script(_CHORD + """
redis.call('ZREM', due, id)
return redis.call('DEL', parts, added, size, seen, claim, outbox, group)
""")

#: Which copy of a task runs: the one that came first. KEYS: the task's. ARGV: the copy, seconds, '1' if it has ended.
TAKE_RUN = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and ARGV[3] ~= '1' then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
""")

_CANVAS = """
local prefix = ARGV[1]
local function run_of(id)
    for _, index in ipairs(KEYS) do
        local run = redis.call('HGET', index, id)
        if run then return run end
    end
end
local function in_batches(ids, do_with)
    local batch = {}
    for id in string.gmatch(ids, '[^\\n]+') do
        batch[#batch + 1] = id
        if #batch == 1000 then do_with(batch) batch = {} end
    end
    if #batch > 0 then do_with(batch) end
end
"""

#: Keep a record of a canvas. KEYS: the indexes of ids, the present one first. ARGV: prefix of keys, run, record,
#: seconds to keep it (0: for ever), ids with a line end between them, ids of tasks whose run it belongs to.
KEEP_CANVAS = Script(_CANVAS + """
local run, ttl, known = ARGV[2], tonumber(ARGV[4]), false
for place = 6, #ARGV do known = known or run_of(ARGV[place]) end
run = known or run
if not known then redis.call('DEL', prefix .. run) end
redis.call('RPUSH', prefix .. run, ARGV[3])
local function note(ids)
    local pairs = {}
    for place, id in ipairs(ids) do pairs[place * 2 - 1], pairs[place * 2] = id, run end
    redis.call('HSET', KEYS[1], unpack(pairs))
end
in_batches(ARGV[5], note)
if not known and #ARGV > 5 then note({unpack(ARGV, 6)}) end
if ttl > 0 then for _, key in ipairs({prefix .. run, KEYS[1]}) do redis.call('EXPIRE', key, ttl) end end
return 1
""")

#: The run that an id belongs to, and its records. KEYS as before. ARGV: prefix of keys, id.
FIND_CANVAS = Script(_CANVAS + """
local run = run_of(ARGV[2])
if not run then return false end
local records = redis.call('LRANGE', prefix .. run, 0, -1)
return #records > 0 and {run, records}
""")

#: Remove a run. KEYS as before. ARGV: prefix of keys, run, ids with a line end between them.
DROP_CANVAS = Script(_CANVAS + """
redis.call('DEL', prefix .. ARGV[2])
for _, index in ipairs(KEYS) do
    in_batches(ARGV[3], function(ids) redis.call('HDEL', index, ARGV[2], unpack(ids)) end)
end
return 1
""")

#: What is known of a chord: size, added, claim, deadline, times claimed, due; false of none.
HEAD = Script(_CHORD + """
if redis.call('EXISTS', outbox, claim) == 0 then return false end
local said = redis.call('HMGET', outbox, 'deadline', 'attempts')
return {redis.call('GET', size) or '', redis.call('GET', added) or '0', redis.call('GET', claim) or '',
        said[1] or '', said[2] or '0', redis.call('ZSCORE', due, id) or '0'}
""")

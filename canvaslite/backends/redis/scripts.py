"""What the Redis server does in one atomic step.

The keys and values of a chord are Celery 5.7's: ``.j`` the parts (a sorted set, or a list), ``.t`` what was added to
the size ``.s``, ``.d`` the slots seen, ``.c`` the claim or ``done``. Either side may run any part of a chord.
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

#: Count a part, after keeping its result if there is a seventh key; claim the chord if it is complete.
#: KEYS: .j .t .s .d .c group [meta]. ARGV: slot, part, '1' if ordered, score, seconds to keep the chord and the group,
#: milliseconds of the lease, token [, payload, ttl, final].
#: Returns status (0 recorded, 1 claimed, 2 busy, 3 done) and, when claimed, the number of parts, the parts, the slots
#: if some parts look alike, and the saved group.
PART = Script(_KEEP + """
local parts, added, size, seen, claim, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ordered = ARGV[3] == '1'
if KEYS[7] then keep(KEYS[7], ARGV[9], ARGV[10], ARGV[11]) end
if redis.call('GET', claim) == 'done' then return {3} end
if redis.call('SADD', seen, ARGV[1]) == 1 then
    if ordered then redis.call('ZADD', parts, ARGV[4], ARGV[2]) else redis.call('RPUSH', parts, ARGV[2]) end
end
-- Not at every part: that would be a third of the work.
if tonumber(ARGV[5]) > 0 and redis.call('TTL', seen) < ARGV[5] * 0.95 then
    for _, key in ipairs({parts, added, size, seen}) do redis.call('EXPIRE', key, ARGV[5]) end
    if tonumber(ARGV[6]) > 0 then redis.call('EXPIRE', group, ARGV[6]) end
end
local expected = redis.call('GET', size)
if not expected then return {0} end
local total = tonumber(expected) + tonumber(redis.call('GET', added) or 0)
local there = redis.call(ordered and 'ZCARD' or 'LLEN', parts)
local slots = redis.call('SCARD', seen)
if math.max(there, slots) < total then return {0} end
if not redis.call('SET', claim, ARGV[8], 'NX', 'PX', ARGV[7]) then return {2} end
local all = redis.call(ordered and 'ZRANGE' or 'LRANGE', parts, 0, -1)
return {1, total, all, there ~= slots and redis.call('SMEMBERS', seen) or {}, redis.call('GET', group) or ''}
""")

#: A chord begins: nothing may be left of an earlier run under the same id.
#: KEYS: .j .t .s .d .c. ARGV: size ('': not known yet), seconds to keep it (0: for ever).
OPEN = Script("""
redis.call('DEL', unpack(KEYS))
if ARGV[1] ~= '' then
    redis.call('SET', KEYS[3], ARGV[1])
    if tonumber(ARGV[2]) > 0 then redis.call('EXPIRE', KEYS[3], ARGV[2]) end
end
return 1
""")

#: Wait for more parts. KEYS: .t. ARGV: how many, seconds to keep it (0: for ever).
EXTEND = Script("""
redis.call('INCRBY', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1
""")

#: Hold the claim for longer, or take it again if the lease has ended and the chord is still there.
#: KEYS: .c .s. ARGV: token, milliseconds.
RENEW = Script("""
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if holder or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

#: Give the claim back. KEYS: .c. ARGV: token.
RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

#: The chord is done: its tombstone stays, and of one that has failed what its parts gave.
#: KEYS: .c .j .t .s .d. ARGV: token, seconds to keep what stays, whether it has failed (1 or 0).
FINISH = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[2]) else redis.call('EXPIRE', KEYS[2], ARGV[2]) end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
""")

"""Holds the Lua scripts of the events in Redis. Redis runs each of them with no other command in between.

Redis does not take back what a script wrote before an error. So every script checks its whole input before it
writes; and what a server refuses as a whole (out of memory, read-only, cannot save), it refuses at a script's
first write. That one must be a ``ZADD`` or ``INCRBY``, which a server without memory refuses, where the
script stores something, and a ``DEL``, which it never refuses, where it removes something.

Keys of a user: a sorted set of events, scored by timestamp, and a set of the events' identities. A member of
the former is ``<16 digits of arrival>:<length of the item id>:<item id><event id>``, so that events of one
second are in the order in which they came. Keys of all users: ``users``, a sorted set of those who have
events, scored by their oldest timestamp that is a time (-1 if there is none); the counter ``arrivals``; and
``forgotten``.
"""

from __future__ import annotations

# Shared by the scripts below: what an event's identity is, the removal of events, and the score of a user.
_COMMON = """
local function identity(member, score)
  local length, at = string.match(member, '^%d+:(%d+):()')
  if not length then return nil end
  local item = string.sub(member, at, at + length - 1)
  local event = string.sub(member, at + length)
  if event ~= '' then return 'e' .. event end
  return 't' .. string.format('%.0f', score) .. ':' .. item
end

local function remove(events, identities, found)
  for at = 1, #found, 2 do
    redis.call('ZREM', events, found[at])
    local known = identity(found[at], tonumber(found[at + 1]))
    if known then redis.call('SREM', identities, known) end
  end
  return #found / 2
end

local function expire(events, identities, cutoff)
  if cutoff == '' then return 0 end
  return remove(events, identities, redis.call('ZRANGEBYSCORE', events, 0, '(' .. cutoff, 'WITHSCORES'))
end

local function enrol(users, user, events)
  local oldest = redis.call('ZRANGEBYSCORE', events, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if oldest[2] then
    redis.call('ZADD', users, oldest[2], user)
  elseif redis.call('EXISTS', events) == 1 then
    redis.call('ZADD', users, -1, user)
  else
    redis.call('ZREM', users, user)
  end
end
"""

# Stores a batch. KEYS: users, arrivals, then events and identities of each user. ARGV: highest number of
# users, whether there is room for new ones (1 or 0), highest number of events of a user, timestamp before
# which events are dropped (empty for none), then for every user its id, its number of events, and for each of
# them timestamp, item id and event id. The reply is what happened (0 stored, 1 too many users, 2 no room for
# a new user), then numbers: stored, repeated, dropped, and keys that held something else and were set aside.
APPEND = (
    _COMMON
    + """
local new, at = 0, 5
for i = 3, #KEYS, 2 do
  if not redis.call('ZSCORE', KEYS[1], ARGV[at]) then new = new + 1 end
  at = at + 2 + 3 * ARGV[at + 1]
end
if new > 0 and redis.call('ZCARD', KEYS[1]) + new > tonumber(ARGV[1]) then return {1} end
if new > 0 and ARGV[2] == '0' then return {2} end
local arrival = redis.call('INCRBY', KEYS[2], #ARGV)
local stored, repeated, dropped, aside = 0, 0, 0, 0
at = 5
for i = 3, #KEYS, 2 do
  local events, identities, user, count = KEYS[i], KEYS[i + 1], ARGV[at], tonumber(ARGV[at + 1])
  for key, kind in pairs({[events] = 'zset', [identities] = 'set'}) do
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      redis.call('RENAME', key, key .. ':set-aside')
      aside = aside + 1
    end
  end
  at = at + 2
  for n = 1, count do
    local timestamp, item, event = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    at = at + 3
    local known = event ~= '' and 'e' .. event or 't' .. timestamp .. ':' .. item
    if redis.call('SADD', identities, known) == 1 then
      local member = string.format('%016.0f:%d:', arrival - #ARGV + at, #item) .. item .. event
      redis.call('ZADD', events, timestamp, member)
      stored = stored + 1
    else
      repeated = repeated + 1
    end
  end
  local excess = redis.call('ZCARD', events) - ARGV[3]
  if excess > 0 then
    local oldest = redis.call('ZRANGE', events, 0, excess - 1, 'WITHSCORES')
    dropped = dropped + remove(events, identities, oldest)
  end
  dropped = dropped + expire(events, identities, ARGV[4])
  enrol(KEYS[1], user, events)
end
return {0, stored, repeated, dropped, aside}
"""
)

# Forgets a user. KEYS: users, forgotten, the user's events and identities. ARGV: user id, owner, seconds for
# which the record that tells other workers of it is kept. The reply is whether there was anything. The number
# of a record is the time in microseconds, or one more than that of the record before, if that is more.
FORGET = """
local there = redis.call('DEL', KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local number = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', number - ARGV[3] * 1000000)
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
if last[2] then number = math.max(number, last[2] + 1) end
redis.call('ZADD', KEYS[2], string.format('%.0f', number), ARGV[2])
return there > 0 and 1 or 0
"""

# Drops the events of users who have some from before a timestamp. KEYS: users, then events and identities of
# each user. ARGV: the timestamp, then the users' ids. The reply is the number of events.
EXPIRE = (
    _COMMON
    + """
local dropped = 0
local function holds(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
for i = 2, #KEYS, 2 do
  local events, identities, user = KEYS[i], KEYS[i + 1], ARGV[i / 2 + 1]
  if holds(events, 'zset') and holds(identities, 'set') then
    dropped = dropped + expire(events, identities, ARGV[1])
    enrol(KEYS[1], user, events)
  else
    redis.call('ZADD', KEYS[1], -1, user)  -- another program's key: not looked at again until it is written
  end
end
return dropped
"""
)

"""Holds the Lua scripts of the Redis stores. Redis runs each of them with no other command in between."""

from __future__ import annotations

# Takes a lease. KEYS: the lease. ARGV: holder, milliseconds to live. The reply is 0 if another holder has it.
TAKE = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# Ends a lease if the holder still has it. KEYS: the lease. ARGV: holder.
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
"""

# Draws from token buckets with the arithmetic of MemoryMeters, on the server's clock. KEYS: the buckets.
# ARGV: patience and burst, then for every flow its amount in seconds of refill. The reply is the wait in
# seconds, as a string, since Redis cuts a Lua number to an integer; nil if the wait exceeds the patience.
DRAW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local burst = tonumber(ARGV[2])
local full, wait = {}, 0
for i, key in ipairs(KEYS) do
  full[i] = math.max(now, tonumber(redis.call('GET', key) or '0'))
  wait = math.max(wait, full[i] - now - math.max(0, burst - tonumber(ARGV[i + 2])))
end
if wait > tonumber(ARGV[1]) then return false end
for i, key in ipairs(KEYS) do
  local at = full[i] + tonumber(ARGV[i + 2])
  local left = math.ceil((at - now) * 1000)
  if left > 0 then
    redis.call('SET', key, string.format('%.6f', at), 'PX', left)
  else
    redis.call('DEL', key)
  end
end
return string.format('%.6f', wait)
"""

# Adds to totals. A total is a hash with the part of each process: a restarted server has lost them, and each
# process sends its own part again. KEYS: the totals. ARGV: whether limits are checked (1) or not (0), the
# process, then for every total the amount, the limit, milliseconds to live and the process's own part.
ADD = """
local mine = {}
for i, key in ipairs(KEYS) do
  mine[i] = math.max(tonumber(redis.call('HGET', key, ARGV[2]) or '0'), tonumber(ARGV[4 * i + 2]))
  if ARGV[1] == '1' then
    local total = mine[i] + tonumber(ARGV[4 * i - 1])
    local parts = redis.call('HGETALL', key)
    for at = 1, #parts, 2 do
      if parts[at] ~= ARGV[2] then total = total + tonumber(parts[at + 1]) end
    end
    if total > tonumber(ARGV[4 * i]) then return 0 end
  end
end
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[2], string.format('%.9f', mine[i] + tonumber(ARGV[4 * i - 1])))
  redis.call('PEXPIRE', key, ARGV[4 * i + 1])
end
return 1
"""

# Reads a value. KEYS: the value. ARGV: what begins a value with an owner, and the prefix of the owners'
# lists. The reply is nil for a value that is not on its owner's list any more.
GET_OWNED = """
local value = redis.call('GET', KEYS[1])
local mark = #ARGV[1]
if not value or string.sub(value, 1, mark) ~= ARGV[1] then return value end
local list = ARGV[2] .. string.sub(value, mark + 1, mark + 32)
if not redis.call('ZSCORE', list, KEYS[1]) then return false end
return string.sub(value, mark + 33)
"""

# Stores a value with an owner. KEYS: the value, the owner's list, the mark of a forgotten owner. ARGV: the
# value, milliseconds to live. The list has the time at which each key expires, and lives as long as the last
# of them. It is written first: a server that is out of memory refuses the first write alone.
SET_OWNED = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# Forgets an owner. KEYS: the owner's list, the mark of a forgotten owner. ARGV: milliseconds for which the
# mark stays. It begins with a deletion, which a server that is out of memory does not refuse, nor what
# follows it.
FORGET_OWNER = """
local keys = redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
for _, key in ipairs(keys) do redis.call('DEL', key) end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return #keys
"""

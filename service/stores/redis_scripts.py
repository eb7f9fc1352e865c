"""The Lua scripts of the Redis stores. Redis runs each at one go, with no other command in between."""

from __future__ import annotations

TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
"""


# The same arithmetic as in MemoryMeters, on the server's clock. ARGV: patience, burst, then the seconds'
# worth of every flow. The reply is a string: Redis would cut a Lua number to an integer.
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

# A total is a hash of what each process added, so that a server that comes back empty, or was away, learns
# from each process what it had spent. ARGV: ask (1) or not (0), the process, then amount, limit, milliseconds
# to live and the process's own part of every total.
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

-- Keep one entry of a tenant, within the tenant's bound and the server's. What expires first makes room.
--
-- KEYS: the entry, the tenant's index (a sorted set: name, when it expires), its sizes (a hash by name, and `total`).
-- ARGV: value, how long in ms, name, what every entry's key begins with, the tenant's most bytes, the share of the
-- server's memory that caches leave free. Reply: whether it was kept.
local entry, index, sizes = KEYS[1], KEYS[2], KEYS[3]
local value, lifetime, name, prefix, most = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function forget(gone)
  local size = redis.call('HGET', sizes, gone)
  if size then
    redis.call('HDEL', sizes, gone)
    redis.call('HINCRBY', sizes, 'total', -size)
  end
  redis.call('ZREM', index, gone)
end

-- Valkey has removed these itself.
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 1000)) do forget(expired) end
redis.call('UNLINK', entry)
forget(name)

local size = #value + 256 -- with its key and its places in index and sizes
if size > most then return 0 end
local memory = redis.call('INFO', 'memory')
local capacity = tonumber(string.match(memory, '\nmaxmemory:(%d+)'))
if capacity > 0 and tonumber(string.match(memory, '\nused_memory:(%d+)')) + size > capacity * (1 - ARGV[6]) then
  return 0 -- limits live here too, and must not be refused for a cache
end
local total = tonumber(redis.call('HGET', sizes, 'total') or 0)
while total + size > most do
  local first = redis.call('ZRANGE', index, 0, 0)[1]
  if not first then break end
  redis.call('UNLINK', prefix .. first)
  forget(first)
  total = tonumber(redis.call('HGET', sizes, 'total'))
end
redis.call('SET', entry, value, 'PX', lifetime)
redis.call('ZADD', index, now + lifetime, name)
redis.call('HSET', sizes, name, size)
redis.call('HINCRBY', sizes, 'total', size)
for _, book in ipairs({index, sizes}) do
  if redis.call('PTTL', book) < lifetime then redis.call('PEXPIRE', book, lifetime) end
end
return 1

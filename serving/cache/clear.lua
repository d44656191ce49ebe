-- Remove some entries of a tenant whose names are like a pattern. Reply: where to go on ("0": it has seen all), how many.
--
-- KEYS: the tenant's index, its sizes. ARGV: what every entry's key begins with, the pattern, where to go on (at first
-- "0"), how many to look at.
local found = redis.call('ZSCAN', KEYS[1], ARGV[3], 'MATCH', ARGV[2], 'COUNT', ARGV[4])
local removed = 0
for place = 1, #found[2], 2 do
  local name = found[2][place]
  redis.call('UNLINK', ARGV[1] .. name)
  removed = removed + redis.call('ZREM', KEYS[1], name)
  local size = redis.call('HGET', KEYS[2], name)
  if size then
    redis.call('HDEL', KEYS[2], name)
    redis.call('HINCRBY', KEYS[2], 'total', -size)
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
return {found[1], removed}

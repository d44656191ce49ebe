-- Remove some entries of a tenant. Reply: how many; 0 when there are none left.
--
-- KEYS: the tenant's index, its sizes. ARGV: what every entry's key begins with, how many at once.
local names = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)
for _, name in ipairs(names) do
  redis.call('UNLINK', ARGV[1] .. name)
  redis.call('ZREM', KEYS[1], name)
  local size = redis.call('HGET', KEYS[2], name)
  if size then
    redis.call('HDEL', KEYS[2], name)
    redis.call('HINCRBY', KEYS[2], 'total', -size)
  end
end
if #names == 0 then redis.call('DEL', KEYS[1], KEYS[2]) end
return #names

-- Keep why a request was refused. A tenant keeps its newest ones only: a flood of refusals must not fill Valkey.
--
-- KEYS: the tenant's explanations (a hash), their order (a list). ARGV: request, explanation, most, how long in s.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('LPUSH', KEYS[2], ARGV[1])
while redis.call('LLEN', KEYS[2]) > tonumber(ARGV[3]) do redis.call('HDEL', KEYS[1], redis.call('RPOP', KEYS[2])) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1

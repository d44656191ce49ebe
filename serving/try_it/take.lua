-- One request of a visitor: counted under both limits or under none.
-- KEYS: tokens of the day, requests of the visitor. ARGV: tokens, most tokens of a day, most requests, seconds of both keys.
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return {'day', 0} end
local asked = tonumber(redis.call('GET', KEYS[2]) or '0')
if asked >= tonumber(ARGV[3]) then return {'visitor', math.max(1, redis.call('TTL', KEYS[2]))} end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if redis.call('INCR', KEYS[2]) == 1 then redis.call('EXPIRE', KEYS[2], ARGV[5]) end
return {'ok', 0}

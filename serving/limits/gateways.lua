-- A gateway says that it lives, and which requests it is answering under one limit; what it does not name any more is
-- given up when its lease ends. Reply: how many gateways live.
--
-- KEYS: the gateways (a sorted set: gateway, when it counts as dead), and the running requests of a limit, if any.
-- ARGV: this gateway, for how long it counts as alive in ms, lease of a request in ms, then the requests.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if KEYS[2] then
  for i = 4, #ARGV do redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[i]) end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return redis.call('ZCARD', KEYS[1])

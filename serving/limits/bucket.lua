-- One decision over all limits that meet a request: all of them count it, or none does. `buckets.py` is the same in
-- Python and explains it; a test holds the two together.
--
-- KEYS: for each limit its levels (a hash) and its running requests (a sorted set: request, when it is given up).
-- ARGV: what to do (take, end, look), request, requests, tokens, lease in ms; then for each limit its four ceilings
--       (0: none) and, for `end`, when the reservation of tokens has drained.
-- Reply: whether it was admitted, the instant in ms, then for each limit its three levels and its running requests.
local act, request = ARGV[1], ARGV[2]
local weights = {tonumber(ARGV[3]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local lease = tonumber(ARGV[5])
local periods = {1000, 60000, 60000}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local admitted = 1
local reply = {1, now}

for i = 1, #KEYS / 2 do
  local first = 5 * i
  local limits = {tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])}
  local most_running, drained_at = tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5])
  local state = {}
  if limits[1] + limits[2] + limits[3] > 0 then
    state = redis.call('HMGET', KEYS[2 * i - 1], 'at', 'second', 'minute', 'tokens')
  end
  local elapsed = math.max(0, now - (tonumber(state[1]) or now))
  for j = 1, 3 do
    local level = math.max(0, (tonumber(state[j + 1]) or 0) - elapsed * limits[j])
    if limits[j] == 0 then
      level = 0
    elseif act == 'take' then
      level = level + weights[j] * periods[j]
      if level > limits[j] * periods[j] then admitted = 0 end
    elseif act == 'end' and j == 3 then
      local change = weights[j] * periods[j]
      level = level + math.max(change, -math.max(0, math.min(level, (drained_at - now) * limits[j])))
    end
    reply[#reply + 1] = level
  end
  local running = 0
  if most_running > 0 then
    if act == 'end' then
      redis.call('ZREM', KEYS[2 * i], request)
    else
      redis.call('ZREMRANGEBYSCORE', KEYS[2 * i], '-inf', now)
    end
    running = redis.call('ZCARD', KEYS[2 * i])
    if act == 'take' then
      running = running + 1
      if running > most_running then admitted = 0 end
    end
  end
  reply[#reply + 1] = running
end

if act == 'end' or act == 'take' and admitted == 1 then
  for i = 1, #KEYS / 2 do
    local empty_in, has_rates = 0, false
    for j = 1, 3 do
      local limit = tonumber(ARGV[5 * i + j])
      if limit > 0 then
        has_rates = true
        empty_in = math.max(empty_in, math.ceil(reply[4 * i + j - 2] / limit))
      end
    end
    if empty_in > 0 then
      redis.call('HSET', KEYS[2 * i - 1], 'at', now, 'second', reply[4 * i - 1], 'minute', reply[4 * i],
                 'tokens', reply[4 * i + 1])
      redis.call('PEXPIRE', KEYS[2 * i - 1], empty_in)
    elseif has_rates then
      redis.call('DEL', KEYS[2 * i - 1])
    end
    if act == 'take' and tonumber(ARGV[5 * i + 4]) > 0 then
      redis.call('ZADD', KEYS[2 * i], now + lease, request)
      redis.call('PEXPIRE', KEYS[2 * i], lease)
    end
  end
end
reply[1] = admitted
return reply

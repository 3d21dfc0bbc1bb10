-- Reads a fenced value and its remaining life (ms).
-- KEYS: the value.
-- ARGV: the greatest length. A longer value is not ours and stays in Redis.
local value = redis.call('GET', KEYS[1])
if value and #value > tonumber(ARGV[1]) then value = false end
return {value, redis.call('PTTL', KEYS[1])}

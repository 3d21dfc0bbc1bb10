-- Reads a string.
-- KEYS: the string.
-- ARGV: the greatest length. A longer string is not ours and stays in Redis.
local value = redis.call('GET', KEYS[1])
if value and #value > tonumber(ARGV[1]) then return false end
return value

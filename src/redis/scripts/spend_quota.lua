-- Counts a call to WeChat.
-- KEYS: the count, the pause between calls.
-- ARGV: the most calls, the life of the count (ms), the pause (ms).
-- Returns the count with this call; 0 if the call is not allowed.
local count = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if count >= tonumber(ARGV[1]) then return 0 end
if tonumber(ARGV[3]) > 0 and not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', count + 1), 'PX', ARGV[2])
return count + 1

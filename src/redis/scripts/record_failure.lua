-- Records that WeChat failed. The pause doubles with each failure in a row.
-- KEYS: the number of failures, the pause.
-- ARGV: the reason, the first pause, the longest pause, how long failures count as in a row (all in ms).
-- Returns the pause (ms).
local count = (tonumber(redis.call('GET', KEYS[1]) or '0') or 0) + 1
redis.call('SET', KEYS[1], string.format('%.0f', count), 'PX', ARGV[4])
local pause = math.min(tonumber(ARGV[2]) * 2 ^ math.min(count - 1, 16), tonumber(ARGV[3]))
redis.call('SET', KEYS[2], ARGV[1], 'PX', string.format('%.0f', pause))
return string.format('%.0f', pause)

-- Writes a value unless a newer fence exists. A value of another type under the key is replaced.
-- KEYS: the value, the fence.
-- ARGV: the fence of the writer, the value, the life of the value (ms), the life of the fence (ms).
-- Returns whether the value was written.
local own = tonumber(ARGV[1])
local given = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local old = redis.pcall('GET', KEYS[1])
local wrote = 0
if type(old) == 'string' then wrote = tonumber(string.match(old, '^(%d+):') or '0') end
if own < given or own < wrote then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
return 1

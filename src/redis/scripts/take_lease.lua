-- Takes a lease.
-- KEYS: the lock, the fence.
-- ARGV: the owner, the life of the lease (ms), the life of the fence (ms).
-- Returns the fence; nothing if another owner has the lease.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local fence = string.format('%.0f', math.max(last + 1, now))
redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
return fence

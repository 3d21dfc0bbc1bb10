-- Reads the progress of a login and tries to take its lock.
-- KEYS: the progress, the lock.
-- ARGV: the owner, the life of the lock (ms), the longest progress. A longer one is not ours and stays in Redis.
-- Returns the progress and whether this owner took the lock.
local took = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
local progress = redis.call('GET', KEYS[1])
if progress and #progress > tonumber(ARGV[3]) then progress = false end
return {progress, took and 1 or 0}

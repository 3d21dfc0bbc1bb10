-- Releases the lock of a login and writes its progress. A lock that another owner has stays.
-- KEYS: the progress, the lock.
-- ARGV: the owner, the progress or '', its life (ms), whether to write it even without the lock.
-- Returns whether the owner still had the lock.
local mine = redis.call('GET', KEYS[2]) == ARGV[1]
if ARGV[2] ~= '' and (mine or ARGV[4] == '1') then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if mine then redis.call('DEL', KEYS[2]) end
return mine and 1 or 0

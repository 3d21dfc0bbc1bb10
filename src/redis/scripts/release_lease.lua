-- Releases a lease.
-- KEYS: the lock.
-- ARGV: the owner.
-- Returns whether the owner still had the lease.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

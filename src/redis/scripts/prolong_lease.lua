-- Prolongs a lease.
-- KEYS: the lock.
-- ARGV: the owner, the new life of the lease (ms).
-- Returns whether the owner still had the lease.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

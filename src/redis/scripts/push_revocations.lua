-- Adds revocations to the list and publishes them.
-- KEYS: the list.
-- ARGV: the channel, or '' to publish nothing; then member and end (s) in turn.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last = 0
for i = 2, #ARGV, 2 do
    redis.call('ZADD', KEYS[1], now, ARGV[i])
    last = math.max(last, tonumber(ARGV[i + 1]))
end
local left, lives = last * 1000 - now, redis.call('PTTL', KEYS[1])
if lives < 0 or left > lives then redis.call('PEXPIRE', KEYS[1], math.max(left, 1000)) end
if ARGV[1] ~= '' then
    for i = 2, #ARGV, 2 do redis.call('PUBLISH', ARGV[1], ARGV[i]) end
end
return #ARGV

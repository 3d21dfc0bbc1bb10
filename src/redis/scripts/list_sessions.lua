-- Lists the sessions of a subject.
-- KEYS: the subject's sessions.
-- ARGV: the most entries, the longest value. A longer value is not ours and stays in Redis.
-- Returns session ids and values in turn.
local all, listed = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
    if #listed < 2 * tonumber(ARGV[1]) and #all[i] <= 64 and #all[i + 1] <= tonumber(ARGV[2]) then
        listed[#listed + 1] = all[i]
        listed[#listed + 1] = all[i + 1]
    end
end
return listed

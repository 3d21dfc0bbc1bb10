-- Reads one page of the list of revocations.
-- KEYS: the list, the mark.
-- ARGV: the first score, a new mark in case there is none, the page size, the most members of one score, the life of the
--   mark (ms), the longest member.
-- Returns the time of Redis (ms), the mark, the length of the list, the score of the next page or '', whether all members
--   of the last score fitted, and the members.
--
-- Other instances write to the list between two pages, which shifts every rank. So a page starts after a score instead of
-- at a rank, and holds all members of its last score. A member or mark that is longer than ours stays in Redis.
local t = redis.call('TIME')
local mark = redis.call('GET', KEYS[2])
if mark and #mark <= 64 then redis.call('PEXPIRE', KEYS[2], ARGV[5])
else mark = ARGV[2]; redis.call('SET', KEYS[2], mark, 'PX', ARGV[5]) end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local members, more, whole, longest = {}, '', 1, tonumber(ARGV[6])
for i = 1, #found, 2 do
    if #found[i] <= longest then members[#members + 1] = found[i] end
end
if #found >= 2 * tonumber(ARGV[3]) then
    local last = found[#found]
    local same = redis.call('ZRANGEBYSCORE', KEYS[1], last, last, 'LIMIT', 0, ARGV[4])
    for _, member in ipairs(same) do
        if #member <= longest then members[#members + 1] = member end
    end
    more = '(' .. last
    if #same >= tonumber(ARGV[4]) then whole = 0 end
end
return {t[1] * 1000 + math.floor(t[2] / 1000), mark, redis.call('ZCARD', KEYS[1]), more, whole, members}

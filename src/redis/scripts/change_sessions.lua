-- Changes the sessions of a subject, deletes those that have ended, bounds their number, and sets the expiry of the hash.
-- KEYS: the subject's sessions.
-- ARGV: the most sessions; how far from now (s) a session can end; then groups of four:
--   B, id, "<ends> <seen>", sealed record: the session started
--   S, id, time, '':                       the session was used
--   E, id, '', '':                         the session ended
-- Returns the ids of used sessions that are not in the hash.
local unknown = {}
for i = 3, #ARGV, 4 do
    local op, sid = ARGV[i], ARGV[i + 1]
    if op == 'E' then redis.call('HDEL', KEYS[1], sid)
    elseif op == 'B' then redis.call('HSET', KEYS[1], sid, ARGV[i + 2] .. ' ' .. ARGV[i + 3])
    else
        local known = redis.call('HGET', KEYS[1], sid)
        local ends, seen, rest = string.match(known or '', '^(%d+) (%d+) (.*)$')
        if not ends then unknown[#unknown + 1] = sid
        elseif tonumber(ARGV[i + 2]) > tonumber(seen) then
            redis.call('HSET', KEYS[1], sid, ends .. ' ' .. ARGV[i + 2] .. ' ' .. rest)
        end
    end
end
local now = tonumber(redis.call('TIME')[1])
local all = redis.call('HGETALL', KEYS[1])
local alive, last = {}, 0
for i = 1, #all, 2 do
    local ends, seen = string.match(all[i + 1], '^(%d+) (%d+) ')
    ends, seen = tonumber(ends or '0'), tonumber(seen or '0')
    if ends <= now or ends > now + tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], all[i])
    else
        alive[#alive + 1] = {all[i], seen}
        last = math.max(last, ends)
    end
end
local over = #alive - tonumber(ARGV[1])
if over > 0 then
    table.sort(alive, function(a, b) return a[2] < b[2] end)
    for i = 1, over do redis.call('HDEL', KEYS[1], alive[i][1]) end
end
if last > 0 then redis.call('EXPIREAT', KEYS[1], string.format('%.0f', last)) end
return unknown

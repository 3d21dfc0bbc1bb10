-- Trims the stream of events and counts the removed events that a consumer group had not read.
-- KEYS: the stream.
-- ARGV: events to keep, the most events to remove, the most groups to read.
-- Returns the number of removed events, the number of groups, and name and count of each group.
--
-- A group whose lag is known and smaller than what stays has read every removed event. For any other group, and where
-- Redis does not know the lag, the script counts the events that the group has read among the first ones. XTRIM removes
-- whole nodes; if a node holds more events than may be removed (stream-node-max-entries), it removes single events.
local length, limit = redis.call('XLEN', KEYS[1]), tonumber(ARGV[2])
if length <= tonumber(ARGV[1]) then return {0, 0, {}} end
local groups, readers = redis.call('XINFO', 'GROUPS', KEYS[1]), {}
for i = 1, math.min(#groups, tonumber(ARGV[3])) do
    local group = {}
    for j = 1, #groups[i], 2 do group[groups[i][j]] = groups[i][j + 1] end
    local lag, read = group['lag'], limit
    if type(lag) ~= 'number' or lag > length - limit then
        read = #redis.call('XRANGE', KEYS[1], '-', group['last-delivered-id'], 'COUNT', limit)
    end
    readers[#readers + 1] = {group['name'], read}
end
local removed = redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1], 'LIMIT', limit)
if removed == 0 and length > ARGV[1] + 10 * limit then
    removed = redis.call('XTRIM', KEYS[1], 'MAXLEN', length - limit)
end
local lost = {}
for _, reader in ipairs(readers) do lost[#lost + 1] = {reader[1], math.max(0, removed - reader[2])} end
return {removed, #groups, lost}

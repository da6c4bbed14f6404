-- Since when the states may be believed: from the last outage that any replica saw. KEYS: where that stands. ARGV: 1 where
-- an outage was seen just now. Answers microseconds.
local since = redis.pcall('GET', KEYS[1])
if type(since) == 'table' or not tonumber(since or '') then
    since = false
end
if ARGV[1] == '1' or not since then
    local time = redis.call('TIME')
    since = time[1] .. string.format('%06d', tonumber(time[2]))
    redis.call('SET', KEYS[1], since)
end
return since

-- What waits before an event. KEYS: the state's. ARGV: replica, upstream, when the event was received, in microseconds: its
-- order is no lower, and those of what it followed are. And for how long the key is kept at least while something waits
-- before it, in milliseconds: whose it is may come back after the state's time is over.
-- Answers {what the upstream calls the incident, the replicas that have earlier events waiting there...}.
local key, own, upstream, mine = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local all = redis.pcall('HGETALL', key)
if all.err then
    return { false }
end
local answer = { false }
for at = 1, #all, 2 do
    local replica, name = string.match(all[at], '^q:(%d+):(.*)$')
    if replica and name == upstream then
        local order = tonumber(all[at + 1])
        if replica ~= own and order and order < mine then
            answer[#answer + 1] = replica
        end
    elseif all[at] == 'r:' .. upstream then
        answer[1] = all[at + 1]
    end
end
local left = #answer > 1 and redis.pcall('PTTL', key)
if type(left) == 'number' and left < tonumber(ARGV[4]) / 2 then
    redis.call('PEXPIRE', key, ARGV[4])
    redis.call('EXISTS', key)
end
return answer

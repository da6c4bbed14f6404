-- Before an event is decided. KEYS: the state's. ARGV: in which states it takes a lease (bits), token, what the lease
-- holds, its life and, where there is no state, the key's; milliseconds; the replica. Answers {0 stands | 1 leased |
-- 2 held, order, state, what a lapsed lease held, 1 where another replica has events waiting}.
local key, token = KEYS[1], ARGV[2]
local all = redis.pcall('HGETALL', key)
if all.err then
    -- Somebody else's under our name.
    redis.call('DEL', key)
    all = {}
end
local v, behind = {}, 0
local own = 'q:' .. ARGV[6] .. ':'
for at = 1, #all, 2 do
    v[all[at]] = all[at + 1]
    if string.sub(all[at], 1, 2) == 'q:' and string.sub(all[at], 1, #own) ~= own then
        behind = 1
    end
end
local order, state, owner, ends, held = v.o or false, v.s, v.t, tonumber(v.u or '') or 0, v.l
if not (state and #state >= 3 and tonumber(order or '')) then
    order, state = false, false
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- What a process of this replica left that ended stands in its log, or never was.
local others = owner and string.sub(owner, 1, 2) ~= string.sub(token, 1, 2)
if others and ends > now then
    return { 2, false, false, false, 0 }
end
local place = 0
if state then
    place = 1 + (string.byte(state, 2) - 1) * 6 + string.byte(state, 3)
end
-- One that lapsed is taken whatever the event: its change may be on a disk all the same, so nothing is sure here.
local adopted = others and held
if not adopted and bit.band(tonumber(ARGV[1]), bit.lshift(1, place)) == 0 then
    return { 0, order, state, false, behind }
end
redis.call('HSET', key, 't', token, 'u', now + tonumber(ARGV[4]), 'l', adopted or ARGV[3])
if not state then
    redis.call('PEXPIRE', key, ARGV[5])
end
-- Read again, or the next change would not be told.
redis.call('EXISTS', key)
return { 1, order, state, adopted or false, behind }

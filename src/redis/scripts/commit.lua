-- A change is durable, or a state is put back. KEYS: the state's. ARGV: token or nothing, order, state, life of the key in
-- milliseconds; of one that is put back what its replica's tokens begin with, and how many upstreams follow whose queue there
-- is known in part alone, and these; and of each queue where an event of the key waits its field and the order of the
-- oldest. With its lease it counts whatever the clocks say; else where it is the newest. Answers 0 where it is not.
local key, token, order = KEYS[1], ARGV[1], ARGV[2]
local v = redis.pcall('HMGET', key, 'o', 't')
if v.err then
    redis.call('DEL', key)
    v = { false, false }
end
local from = 7 + tonumber(ARGV[6])
local is_exact = {}
if ARGV[5] ~= '' then
    -- Put back: this replica's fields are those that are told, and no others.
    local own = 'q:' .. struct.unpack('>H', ARGV[5]) .. ':'
    local keeps = {}
    for at = 7, from - 1 do
        keeps[own .. ARGV[at]] = true
    end
    for at = from, #ARGV, 2 do
        is_exact[ARGV[at]] = not keeps[ARGV[at]]
        keeps[ARGV[at]] = true
    end
    local all = redis.call('HGETALL', key)
    for at = 1, #all, 2 do
        local field = all[at]
        if string.sub(field, 1, #own) == own and not keeps[field] then
            redis.call('HDEL', key, field)
        end
    end
    -- And what an ended process of it held is in its log, or never was.
    if v[2] and string.sub(v[2], 1, 2) == string.sub(ARGV[5], 1, 2) and string.sub(v[2], 1, 8) ~= ARGV[5] then
        redis.call('HDEL', key, 't', 'u', 'l')
    end
end
for at = from, #ARGV, 2 do
    redis.call(is_exact[ARGV[at]] and 'HSET' or 'HSETNX', key, ARGV[at], ARGV[at + 1])
end
local before = tonumber(v[1] or '')
local leased = token ~= '' and v[2] == token
if leased then
    if before and before >= tonumber(order) then
        order = string.format('%.0f', before + 1)
    end
elseif before and before > tonumber(order) then
    redis.call('EXISTS', key)
    return 0
end
redis.call('HSET', key, 'o', order, 's', ARGV[3])
if leased then
    redis.call('HDEL', key, 't', 'u', 'l')
elseif not before or before < tonumber(order) then
    -- Whoever takes over a lease that lapses does not go on from what this change followed.
    redis.call('HDEL', key, 'l')
end
redis.call('PEXPIRE', key, ARGV[4])
redis.call('EXISTS', key)
return 1

-- A field of a state that is there is set; or removed where there is no value, whether the state is there or was taken back.
-- KEYS: the state's. ARGV: field, value.
local key = KEYS[1]
local order = redis.pcall('HGET', key, 'o')
if type(order) == 'table' then
    return 0
end
if ARGV[2] == '' then
    redis.call('HDEL', key, ARGV[1])
elseif order then
    redis.call('HSET', key, ARGV[1], ARGV[2])
else
    return 0
end
redis.call('EXISTS', key)
return 1

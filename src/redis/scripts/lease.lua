-- A lease goes on, or ends without a change. KEYS: the state's. ARGV: token, life in milliseconds or nothing.
local key = KEYS[1]
local owner = redis.pcall('HGET', key, 't')
if owner ~= ARGV[1] then
    return 0
end
if ARGV[2] == '' then
    redis.call('HDEL', key, 't', 'u', 'l')
else
    local time = redis.call('TIME')
    redis.call('HSET', key, 'u', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2]))
end
redis.call('EXISTS', key)
return 1

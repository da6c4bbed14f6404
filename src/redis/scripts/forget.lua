-- A change is taken back, and nothing was known of its key before. KEYS: the state's. ARGV: the order from which on others'
-- changes count. What waits in queues stays.
local key = KEYS[1]
local order = redis.pcall('HGET', key, 'o')
if type(order) ~= 'string' or tonumber(order) > tonumber(ARGV[1]) then
    return 0
end
redis.call('HDEL', key, 'o', 's')
redis.call('EXISTS', key)
return 1

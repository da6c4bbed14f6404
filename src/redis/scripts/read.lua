-- A state, for who does not change it. KEYS: the state's. Answers {order, state}.
local v = redis.pcall('HMGET', KEYS[1], 'o', 's')
if v.err then
    return { false, false }
end
return v

-- What a name stands for. KEYS: the name.
local value = redis.pcall('GET', KEYS[1])
if type(value) ~= 'string' then
    return false
end
return value

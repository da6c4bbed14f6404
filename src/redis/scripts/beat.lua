-- Says that a replica lives, and who else does. KEYS: the register. ARGV: its id, or -1 for the lowest free one; what
-- tells it from others; how long a word of it counts, and how long its id is kept, both in milliseconds.
-- Answers the id and those that live; -1 when all ids are taken; -2 and what is left when another one has it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, token, life, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local rows = redis.pcall('HGETALL', KEYS[1])
if rows.err then
  redis.call('DEL', KEYS[1])
  rows = {}
end
local known, mine, oldest = {}, nil, nil
for at = 1, #rows, 2 do
  local owner, seen = string.match(rows[at + 1], '^(%S+) (%d+)$')
  seen = tonumber(seen)
  -- A server's clock may have been ahead of the one that has its place.
  if not seen or now - seen > keep or seen - now > life then
    redis.call('HDEL', KEYS[1], rows[at])
  else
    local other = tonumber(rows[at])
    known[other] = { owner, seen }
    if owner == token then mine = other end
    if now - seen >= life and (not oldest or seen < known[oldest][2]) then oldest = other end
  end
end
if id < 0 then
  id = mine
  for free = 0, 1023 do
    if id then break end
    if not known[free] then id = free end
  end
  id = id or oldest
  if not id then return { -1 } end
else
  local held = known[id]
  if held and held[1] ~= token and now - held[2] < life then return { -2, life - (now - held[2]) } end
end
redis.call('HSET', KEYS[1], id, token .. ' ' .. string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], keep)
local answer = { id, id }
for other, row in pairs(known) do
  if other ~= id and now - row[2] < life then answer[#answer + 1] = other end
end
return answer

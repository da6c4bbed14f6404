-- Takes tokens that a replica has spent from a limit that all hold together (GCRA, by this server's clock). KEYS: the
-- limit. ARGV: tokens spent, microseconds until a token comes back, burst, and the replicas that live.
-- Answers how many tokens are left, in thousandths; fewer than none when replicas have spent on trust.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local spent, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local burst, replicas = tonumber(ARGV[3]), tonumber(ARGV[4])
local full = redis.pcall('GET', KEYS[1])
if type(full) == 'table' then
  redis.call('DEL', KEYS[1])
  full = nil
end
-- When the bucket would be full again. No further ahead than replicas can have spent: the server before this one may
-- have had another clock.
full = math.min(tonumber(full or 0) or 0, now + (2 * burst + replicas) * interval)
full = math.max(full, now) + spent * interval
if spent > 0 then
  redis.call('SET', KEYS[1], string.format('%.17g', full), 'PX', math.ceil((full - now) / 1000) + 1000)
end
return math.floor((burst - (full - now) / interval) * 1000)

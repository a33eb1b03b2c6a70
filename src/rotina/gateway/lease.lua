-- One process leases a share of a deployment's limits.
-- KEYS: the buckets (hash), the slots by process (hash), the processes (sorted by expiry, ms).
-- ARGV: process, ms until it counts as dead without a sign,
--       for requests and for tokens: capacity, gain a second, least, most (capacity -1: no limit),
--       slots allowed (-1: no limit), least, most.
-- Returns {1, requests, tokens, slots} as strings, or {0, seconds to wait}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = 0

local function bucket(field, at)
  local capacity, gain = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local least, most = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if capacity < 0 then return nil end
  local kept = redis.call('HMGET', KEYS[1], field, field .. '_at')
  local level = tonumber(kept[1]) or capacity
  local since = tonumber(kept[2]) or now
  level = math.min(capacity, level + math.max(0, now - since) / 1000 * gain)
  local short = math.min(least, capacity) - level
  if short > 0 then wait = math.max(wait, short / gain) end
  return {level = level, draw = math.max(least, math.min(most, level))}
end

local requests = bucket('requests', 3)
local tokens = bucket('tokens', 7)

local slots = 0
local allowed, least, most = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
if allowed >= 0 then
  redis.call('ZADD', KEYS[3], now + tonumber(ARGV[2]), ARGV[1])
  local used = 0
  local held = redis.call('HGETALL', KEYS[2])
  for i = 1, #held, 2 do
    local expires = redis.call('ZSCORE', KEYS[3], held[i])
    if expires and tonumber(expires) >= now then
      used = used + tonumber(held[i + 1])
    else
      redis.call('HDEL', KEYS[2], held[i])
    end
  end
  if allowed - used < least then
    wait = math.max(wait, 0.05)
  else
    slots = math.min(allowed - used, math.max(least, most))
  end
end

if wait > 0 then return {0, tostring(wait)} end
if requests then
  redis.call('HSET', KEYS[1], 'requests', tostring(requests.level - requests.draw), 'requests_at', now)
end
if tokens then
  redis.call('HSET', KEYS[1], 'tokens', tostring(tokens.level - tokens.draw), 'tokens_at', now)
end
if requests or tokens then redis.call('PEXPIRE', KEYS[1], 120000) end
if slots > 0 then redis.call('HINCRBY', KEYS[2], ARGV[1], slots) end
return {1, tostring(requests and requests.draw or 0), tostring(tokens and tokens.draw or 0), slots}

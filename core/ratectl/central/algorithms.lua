-- The algorithms of central limits, for decide.lua and settle.lua, which follow this text.
--
-- A limit is an array: {algorithm, cost, shadow, capacity, parameters...}. All times are whole
-- microseconds since 1970, by the server's clock. Numbers are doubles: counts and times stay below
-- 2^53, so their arithmetic is exact. A state is a MessagePack array, but for slots: they are the
-- members of a sorted set, with the time at which each ends.

local NEVER, UNKNOWN = -1, -2
local FAR = 7000000000000000 -- the year 2191: no count lasts longer

local function read(key)
  local text = redis.call('GET', key)
  if not text then return nil end
  local ok, state = pcall(cmsgpack.unpack, text)
  return ok and type(state) == 'table' and state or nil
end

-- Milliseconds are rounded up: a count never ends early.
local function write(key, state, ends)
  redis.call('SET', key, cmsgpack.pack(state), 'PXAT', string.format('%.0f', math.ceil(ends / 1000) + 1))
end

local function ceildiv(a, b)
  local q = math.floor(a / b)
  while q * b < a do q = q + 1 end
  while q > 0 and (q - 1) * b >= a do q = q - 1 end
  return q
end

local token = {}

-- parameters: units per tick, units per token, microseconds per tick.
-- state: {level in units, time of the last tick, time when it was last more than half full,
--         units per token}
function token.load(key, limit, now)
  local per_tick, per_token, tick = limit[5], limit[6], limit[7]
  local full = limit[4] * per_token
  local state = read(key)
  if not state then return {full, now, now, per_token} end
  local level, at, high_at, was = state[1], state[2], state[3], state[4]
  if was ~= per_token then -- other units: whole tokens stay exact, the rest is rounded down
    local whole = math.floor(level / was)
    if whole * was > level then whole = whole - 1 end
    level = whole * per_token + math.max(0, math.floor((level - whole * was) / was * per_token) - 1)
  end
  if now > at then
    local ticks = math.floor((now - at) / tick)
    if per_tick > 0 and ticks >= (full - level) / per_tick then
      level, at = math.max(level, full), now
    else
      level, at = level + ticks * per_tick, at + ticks * tick
    end
  end
  return {math.min(level, full), at, high_at, per_token}
end

function token.wait(limit, state, cost, now)
  local per_tick, per_token, tick = limit[5], limit[6], limit[7]
  if cost > limit[4] or per_tick == 0 then return NEVER end
  local missing = cost * per_token - state[1]
  if missing <= 0 then return 0 end
  return math.min(FAR, math.max(0, state[2] + ceildiv(missing, per_tick) * tick - now))
end

function token.reset_after(limit, state, now)
  local missing = limit[4] * limit[6] - state[1]
  if missing <= 0 then return 0 end
  if limit[5] == 0 then return NEVER end
  return math.min(FAR, math.max(0, state[2] + ceildiv(missing, limit[5]) * limit[7] - now))
end

function token.take(limit, state, cost, now)
  if state[1] * 2 > limit[4] * limit[6] then state[3] = math.max(now, state[2]) end
  state[1] = state[1] - cost * limit[6]
end

function token.left(limit, state)
  return math.max(0, math.floor(state[1] / limit[6]))
end

function token.save(key, limit, state, now)
  local reset = token.reset_after(limit, state, now)
  if reset == NEVER then reset = 3600000000 end
  write(key, state, math.min(now + reset, FAR) + 60000000)
end

-- A refund never makes a bucket fuller than a smaller charge would have left it.
function token.settle(limit, state, more, now, since, cost)
  local per_tick, per_token = limit[5], limit[6]
  local full, level, at = limit[4] * per_token, state[1], math.max(now, state[2])
  local refund = -more * per_token
  if refund > 0 then
    local room = cost * per_token
    local ticks = math.ceil((at - since) / limit[7])
    room = per_tick > 0 and ticks >= room / per_tick and 0 or room - ticks * per_tick
    local half = full - math.floor(full / 2)
    if state[3] < since then
      room = math.max(room, half)
    elseif state[3] == since then
      room = math.max(room, math.min(half, cost * per_token))
    end
    refund = math.max(0, math.min(refund, room, full - level))
  end
  if math.max(level, level + refund) * 2 > full then state[3] = at end
  state[1] = level + refund
end

local sliding = {}

-- parameters: microseconds of the window, most cells, cells that are exact, most cost of a cell.
-- state: cells, oldest first, as {time of the latest request, cost, time, cost, ...}
function sliding.load(key, limit, now)
  local state = read(key) or {}
  local first = 1
  while state[first] and state[first] <= now - limit[5] do first = first + 2 end
  local cells, used = {}, 0
  for i = first, #state, 2 do
    cells[#cells + 1], cells[#cells + 2] = state[i], state[i + 1]
    used = used + state[i + 1]
  end
  cells.used = used
  return cells
end

function sliding.wait(limit, state, cost, now)
  if cost > limit[4] or limit[9] == 1 then return NEVER end
  local excess = state.used + cost - limit[4]
  if excess <= 0 then return 0 end
  for i = 1, #state, 2 do
    excess = excess - state[i + 1]
    if excess <= 0 then return state[i] + limit[5] - now end
  end
  return UNKNOWN
end

function sliding.reset_after(limit, state, now)
  for i = #state - 1, 1, -2 do
    if state[i + 1] > 0 then return math.max(0, state[i] + limit[5] - now) end
  end
  return 0
end

function sliding.take(limit, state, cost, now)
  local count = #state / 2
  state.used = state.used + cost
  if state.used == cost then
    for i = #state, 1, -1 do state[i] = nil end
    state[1], state[2] = now, cost
    return
  end
  local latest = #state - 1
  if now <= state[latest] or (count >= limit[7] and state[latest + 1] + cost <= limit[8]) then
    state[latest], state[latest + 1] = math.max(now, state[latest]), state[latest + 1] + cost
    return
  end
  while #state / 2 >= limit[6] do -- merge the two neighbours with the least cost
    local least, at = nil, nil
    for i = 1, #state - 3, 2 do
      local sum = state[i + 1] + state[i + 3]
      if not least or sum < least then least, at = sum, i end
    end
    table.remove(state, at)
    table.remove(state, at)
    state[at + 1] = least
  end
  state[#state + 1] = now
  state[#state + 1] = cost
end

function sliding.left(limit, state)
  return math.max(0, limit[4] - state.used)
end

-- Nothing is refunded to a request that has expired, or that may be older than the first cell.
function sliding.settle(limit, state, more, now, since)
  if more > 0 then sliding.take(limit, state, more, now) return end
  if since + limit[5] <= now then return end
  for i = 1, #state, 2 do
    if state[i] >= since then
      if i == 1 and since < state[i] then return end
      local left = math.max(0, state[i + 1] + more)
      state.used = state.used - state[i + 1] + left
      state[i + 1] = left
      if left == 0 then
        table.remove(state, i)
        table.remove(state, i)
      end
      return
    end
  end
end

function sliding.save(key, limit, state, now)
  state.used = nil
  if #state == 0 then redis.call('DEL', key) return end
  write(key, state, math.max(now, state[#state - 1]) + limit[5])
end

local quota = {}

-- parameters: starts of calendar windows, ascending: from one before the present to two after it.
-- state: {start, end, used, time of the first count}
function quota.load(key, limit, now)
  local state = read(key)
  if state then now = math.max(now, state[1]) end -- a clock that steps back reopens no window
  local starts = limit[5]
  for i = 1, #starts - 1 do
    if starts[i] <= now and now < starts[i + 1] then
      if state and now < state[2] then return {starts[i], starts[i + 1], state[3], state[4]} end
      return {starts[i], starts[i + 1], 0, now}
    end
  end
  return nil
end

function quota.wait(limit, state, cost, now)
  if cost > limit[4] or limit[6] == 1 then return NEVER end
  if state[3] + cost <= limit[4] then return 0 end
  return state[2] - now
end

function quota.reset_after(limit, state, now)
  return state[3] > 0 and state[2] - now or 0
end

function quota.take(limit, state, cost, now)
  if state[3] == 0 then state[4] = now end
  state[3] = state[3] + cost
end

function quota.settle(limit, state, more, now, since)
  if more > 0 then quota.take(limit, state, more, now) return end
  -- What came before the first count is not known here.
  if since >= state[4] then state[3] = math.max(0, state[3] + more) end
end

function quota.left(limit, state) return math.max(0, limit[4] - state[3]) end

function quota.save(key, limit, state) write(key, state, state[2] + 60000000) end

local slots = {}

-- parameters: microseconds for which a slot is held. A slot is a member of a sorted set, with the
-- time at which it ends.
function slots.load(key, limit, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
  return {redis.call('ZCARD', key)}
end

function slots.wait(limit, state, cost)
  if cost > limit[4] then return NEVER end
  return state[1] + cost <= limit[4] and 0 or UNKNOWN
end

function slots.reset_after(limit, state) return state[1] > 0 and UNKNOWN or 0 end

function slots.take(limit, state, cost) state[1], state.new = state[1] + cost, cost end

function slots.left(limit, state) return math.max(0, limit[4] - state[1]) end

function slots.save(key, limit, state, now, id)
  local ends = string.format('%.0f', now + limit[5])
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  local all = now + limit[5]
  if last[2] then all = math.max(all, tonumber(last[2])) end
  for from = 1, state.new, 1000 do
    local members = {}
    for n = from, math.min(state.new, from + 999) do
      members[#members + 1] = ends
      members[#members + 1] = id .. ':' .. n
    end
    redis.call('ZADD', key, unpack(members))
  end
  redis.call('PEXPIREAT', key, string.format('%.0f', math.ceil(all / 1000) + 1))
end

local algorithms = {token = token, sliding = sliding, quota = quota, slots = slots}

-- The clock: given by tests, otherwise the server's.
local function clock(given)
  if type(given) == 'number' then return given end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
